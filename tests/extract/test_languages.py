"""Languages of a run: what it says of them, and that they decide its plan."""

import logging

import pyarrow.parquet as pq
import pytest

from linkner_ray.extract.limits import LanguageWatch, other_languages
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.extract.progress import Snapshot
from linkner_ray.extract.report import summarise
from linkner_ray.runs.fingerprint import changed_steps
from linkner_ray.spanner.checkpoint import read_parts
from tests.crawl import config_of, overrides, write_checkpoint
from tests.local_pipeline import extract_here
from tests.spanner.tiny import model

ENGLISH = "The committee met again in Berlin to discuss the results of the election ."
GERMAN = "Die Kommission wird im Winter erneut in Berlin \u00fcber die Wahl beraten ."


def totals(**languages):
    counts = {f"documents_language_{code}": count for code, count in languages.items()}
    return {"documents_read": sum(languages.values()), **counts}


@pytest.mark.parametrize(
    ("counts", "trained", "begin"),
    [
        ({"en": 4, "de": 3, "und": 9}, ("en",), None),
        ({"en": 1, "de": 1}, ("en",), None),  # half is not most
        ({"de": 9}, None, None),  # an old checkpoint does not say
        ({"de": 9}, ("de", "en"), None),
        ({"zh": 9}, ("zh_Hant",), None),
        ({"en": 2, "de": 5, "fr": 3}, ("en",), "8 of 10 documents are in languages that the "
         "checkpoint was not trained on (en): de 50%, fr 30%; set input.languages=[en] to skip"),
    ],
)  # fmt: skip
def test_a_run_mostly_in_other_languages_says_so(counts, trained, begin):
    found = other_languages(totals(**counts), trained)
    assert found == begin if begin is None else found.startswith(begin)


def test_the_warning_comes_once_and_before_the_end_of_a_long_run(caplog):
    watch = LanguageWatch(("en",))
    with caplog.at_level(logging.WARNING):
        watch.look(totals(de=999), has_ended=False)
        assert caplog.messages == []
        for _ in range(2):
            watch.look(totals(de=1000), has_ended=False)
        watch.look(totals(de=2000), has_ended=True)
    assert [message.partition(" are")[0] for message in caplog.messages] == [
        "1,000 of 1,000 documents"
    ]


def test_progress_says_what_was_skipped():
    snapshot = Snapshot(seconds=1, shards=1, units=1, other_languages=3)
    assert snapshot.line.endswith(", 3 in other languages skipped")
    assert "languages" not in Snapshot(seconds=1, shards=1, units=1).line


@pytest.fixture
def crawl(tmp_path):
    """Four pages in three languages, of which two shards say one."""
    import pyarrow as pa

    pages = {
        "doc_id": ["a", "b", "c", "d"],
        "text": [ENGLISH, GERMAN, GERMAN, ENGLISH],
        "language": ["eng_Latn", "deu_Latn", None, None],
        "host": ["x", "y", "z", "w"],
    }
    (tmp_path / "crawl").mkdir()
    pq.write_table(pa.table(pages), tmp_path / "crawl" / "a.parquet")
    return str(tmp_path / "crawl")


def arguments(crawl, tmp_path, *more):
    return overrides(crawl, str(tmp_path / "out"), str(tmp_path / "checkpoint"), *more)


def plan_of(crawl, tmp_path, *more):
    return plan_extraction(config_of(*arguments(crawl, tmp_path, *more)))


def test_pages_in_other_languages_are_no_part_of_the_output(crawl, tmp_path):
    write_checkpoint(tmp_path / "checkpoint")
    settings = ("input.languages=[eng]", "input.columns=[host]")
    result = extract_here(*arguments(crawl, tmp_path, *settings))
    rows = pq.read_table(tmp_path / "out" / "entities")
    assert rows.select(["doc_id", "lang", "host"]).to_pylist() == [
        {"doc_id": "a", "lang": "eng_Latn", "host": "x"},
        {"doc_id": "d", "lang": None, "host": "w"},
    ]
    assert result.totals["records_skipped_language_de"] == 2
    assert result.totals["documents_language_en"] == 2
    assert result.totals["documents_quarantined"] == 0
    plan = plan_of(crawl, tmp_path, *settings)
    assert "other languages    2 skipped (de 2)" in summarise(plan, result)


def test_languages_and_filters_decide_the_plan_and_nothing_about_a_text(crawl, tmp_path):
    write_checkpoint(tmp_path / "checkpoint")
    plans = {
        settings: plan_of(crawl, tmp_path, *settings)
        for settings in (
            (),
            ("input.languages=[en]",),
            ("input.languages=[en, de]",),
            ('input.filter=[[host, "=", x]]',),
            ("input.columns=[host]",),
        )
    }
    assert len({plan.digest for plan in plans.values()}) == len(plans)
    same = plan_of(crawl, tmp_path, "input.languages=[deu_Latn, eng]")
    assert same.digest == plans[("input.languages=[en, de]",)].digest
    for plan in plans.values():
        assert changed_steps(plans[()].fingerprint, plan.fingerprint) == {}


@pytest.mark.parametrize("languages", [("de", "zh_Hant"), None])
def test_a_checkpoint_says_what_it_was_trained_on(crawl, tmp_path, languages):
    spanner = model(max_width=3)
    spanner.languages = languages
    spanner.save_pretrained(tmp_path / "checkpoint")
    assert read_parts(tmp_path / "checkpoint").languages == languages
    assert type(spanner).from_pretrained(str(tmp_path / "checkpoint")).languages == languages
    assert plan_of(crawl, tmp_path).languages == languages
