"""Units through all steps in plain Python: no cluster is needed for what a worker does."""

import random
from dataclasses import replace

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from linkner_ray.config import OutputConfig
from linkner_ray.config.budget import Quota
from linkner_ray.errors import ContractError, StartupError
from linkner_ray.llm.backends.cache_backend import CacheBackend
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.prompts import Verdict
from linkner_ray.readers import list_sources
from linkner_ray.runs.counters import check_counters, mean_option_mass
from linkner_ray.stages.chain import Chain, units_of
from linkner_ray.stages.recognize_spans import RecognizeSpans
from linkner_ray.stages.write_entities import write_unit
from tests.crawl import config_of, files_of, overrides, text_of, write_crawl, write_parquet
from tests.fakes import ScriptedBackend
from tests.spanner import tiny
from tests.spanner.tiny import LABELS, model

LLM = ["llm.backend=openai", "llm.model=m", "llm.base_url=http://127.0.0.1:9/v1"]


@pytest.fixture
def shard(tmp_path):
    write_parquet(tmp_path / "a.parquet", [text_of(0), None, text_of(2)], group=2)
    return tmp_path / "a.parquet"


def config(shard, *more):
    settings = ["input.unit_documents=2", "routing.threshold=0.3", *LLM, *more]
    return config_of(*overrides(shard, "out", "c", *settings))


def read(shard, *more, done=(), quota=None):
    settings = config(shard, *more)
    [source] = list_sources(settings.input)
    return list(
        units_of(source, settings, plan_digest="plan", done=dict.fromkeys(done, 2), quota=quota)
    )


def judged(units, shard, *more, backend=None):
    """Units after all steps but writing."""
    chain = Chain.of(config(shard, *more), LABELS)
    steps = [
        chain.recognize_step(RecognizeSpans(chain.recognize, model(max_width=3))),
        chain.classify_step(backend or ScriptedBackend(LABELS, lambda _: "PER")),
        chain.fuse_step(),
    ]
    for unit in units:
        for step in steps:
            step(unit)
    return units


def write(units, output):
    kept = OutputConfig(path=str(output), keep_text=True, keep_candidates=True)
    return [write_unit(unit, kept) for unit in units]


def test_a_unit_has_its_documents_split_into_sentences_and_what_was_no_document(shard):
    units = read(shard)
    assert [(unit.first_record, unit.num_records, unit.is_last) for unit in units] == [
        (0, 2, False),
        (2, 1, True),
    ]
    assert units[0].documents["doc_id"].to_pylist() == ["p0"]
    assert units[0].documents["sentences"].to_pylist()[0]
    assert units[0].quarantine["reason"].to_pylist() == ["null_text"]


def test_units_that_are_done_are_not_read(shard):
    assert [unit.first_record for unit in read(shard, done=[0])] == [2]


def test_a_unit_becomes_its_files_and_a_unit_result(shard, tmp_path):
    results = write(judged(read(shard), shard), tmp_path / "out")
    assert [result.num_records for result in results] == [2, 1]
    assert results[0].counts["documents_quarantined"] == 1
    stages = [
        "ReadDocuments", "SplitSentences", "RecognizeSpans", "RouteSpans", "ClassifySpans",
        "FuseEntities", "WriteEntities",
    ]  # fmt: skip
    for noted in (results[0].seconds, results[0].began, results[0].workers):
        assert list(noted) == stages
    written = ds.dataset(tmp_path / "out" / "entities").to_table()
    assert sorted(written["doc_id"].to_pylist()) == ["p0", "p2"]
    entities = [entity for row in written["entities"].to_pylist() for entity in row]
    assert {entity["label"] for entity in entities if entity["source"] == "llm"} == {"PER"}


@pytest.mark.parametrize("unit_documents", [1, 2, 5, 100])
def test_the_units_of_all_shards_and_formats_get_the_calls_of_the_run(tmp_path, unit_documents):
    crawl = write_crawl(tmp_path / "crawl")
    settings = config(crawl, f"input.unit_documents={unit_documents}", "routing.budget=101 calls")
    sources = list_sources(settings.input)
    quotas = Chain.of(settings, LABELS).quotas([source.size for source in sources])
    asked = [
        unit.max_asked
        for source, quota in zip(sources, quotas, strict=True)
        for unit in units_of(source, settings, plan_digest="p", done={}, quota=quota)
    ]
    assert len(asked) >= len(sources)
    assert min(asked) >= 0
    assert sum(asked) == 101


@pytest.mark.parametrize(("budget", "parts"), [("7 calls", [1, 0, 6]), ("5%", [None] * 3)])
def test_tables_at_hand_share_calls_by_their_documents(budget, parts):
    # 7 calls over 10 documents: floor(0.7 * 2) = 1, floor(0.7 * 2) - 1 = 0, 7 - 1 = 6
    chain = Chain.of(config("in", f"routing.budget={budget}"), LABELS)
    tables = [pa.table({"text": ["x"] * rows}) for rows in (2, 0, 8)]
    assert [unit.max_asked for unit in chain.units_at_hand(tables)] == parts


@pytest.mark.parametrize("calls", [1, 7, 10_000])
def test_units_ask_no_more_calls_than_the_run_has_wherever_one_resumes(shard, tmp_path, calls):
    quota = Quota(calls=calls, total_bytes=shard.stat().st_size)
    budget = f"routing.budget={calls} calls"
    units = judged(read(shard, quota=quota), shard, budget)
    counts = [result.counts for result in write(units, tmp_path / "out")]
    for count in counts:
        check_counters(count)
    routed = [count["routed"] for count in counts]
    uncertain = [count["routed"] + count["over_budget"] for count in counts]
    # Either there are enough for every part, or few enough for the smaller one.
    assert sum(routed) == min(calls, sum(uncertain)) > 0
    write(judged(read(shard, quota=quota, done=[0]), shard, budget), tmp_path / "again")
    [second] = (tmp_path / "again" / "entities").iterdir()
    assert second.read_bytes() == (tmp_path / "out" / "entities" / second.name).read_bytes()


def test_a_unit_that_lost_a_row_on_the_way_is_not_written(shard, tmp_path):
    [first, _] = judged(read(shard), shard)
    with pytest.raises(ContractError, match="3 records in, 2 accounted for"):
        write([replace(first, num_records=3)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_document_that_the_model_has_no_number_for_is_quarantined_and_counted(tmp_path):
    texts = ["Berlin and Paris", "Obama visited the World Bank", "", "London"]
    write_parquet(tmp_path / "a.parquet", texts)
    more = ["input.unit_documents=4", "llm.backend=none"]
    [unit] = read(tmp_path / "a.parquet", *more)
    chain = Chain.of(config(tmp_path / "a.parquet", *more), LABELS)
    broken = RecognizeSpans(chain.recognize, tiny.without_a_number("Obama"))
    for step in (chain.recognize_step(broken), chain.classify_step(None), chain.fuse_step()):
        step(unit)
    [result] = write([unit], tmp_path / "out")
    check_counters(result.counts)
    assert result.counts["documents_read"] == 4
    assert result.counts["documents_quarantined"] == result.counts["quarantine_not_finite"] == 1
    assert result.counts["characters_quarantined"] == len(texts[1])
    assert result.counts["files_quarantined"] == 0
    [row] = ds.dataset(tmp_path / "out" / "_quarantine").to_table().to_pylist()
    assert (row["doc_id"], row["record"], row["num_chars"]) == ("p1", None, len(texts[1]))
    assert ds.dataset(tmp_path / "out" / "entities").to_table()["doc_id"].to_pylist() == [
        "p0", "p2", "p3",
    ]  # fmt: skip
    with pytest.raises(StartupError, match="for 1 documents, such as 'p1'"):
        unit.require_finite()


def moody(seed, *, unreadable=0.1):
    """Answers every question by chance; a share of the answers is unreadable."""
    dice = random.Random(seed)

    def script(_request):
        if dice.random() < unreadable:
            return Verdict.UNREADABLE
        return {label: dice.random() for label in LABELS.classes}

    return ScriptedBackend(LABELS, script)


def test_a_unit_brings_what_the_llm_showed_at_its_start(shard, tmp_path):
    backend = moody(0)
    backend.describe = lambda: {"start_option_mass": "0.25"}
    for result in write(judged(read(shard), shard, backend=backend), tmp_path):
        assert mean_option_mass(result.costs) == 0.25


def test_a_second_run_with_the_cache_asks_nothing_and_writes_the_same_bytes(shard, tmp_path):
    written, costs, backends = [], [], []
    for night in range(2):
        backends.append(moody(night, unreadable=0))  # which is no answer, and asked again
        cache = AnswerCache(str(tmp_path / "cache"), model="m", classes=LABELS.classes)
        units = judged(read(shard), shard, backend=CacheBackend(backends[-1], cache))
        costs.append([result.costs for result in write(units, tmp_path / str(night))])
        written.append(files_of(tmp_path / str(night)))
    assert written[0] == written[1]
    assert len(written[0]) == 5  # 2 units with entities and candidates, one with a quarantine
    assert backends[0].requests
    assert not backends[1].requests
    for first, second in zip(*costs, strict=True):
        questions = first["questions_asked"] + first["questions_from_cache"]
        assert second["questions_from_cache"] == questions > 0
        assert second["questions_asked"] == second["prompt_tokens_asked"] == 0
    tables = [
        ds.dataset(tmp_path / "1" / folder).to_table() for folder in ("entities", "candidates")
    ]
    assert "cache" not in str(tables[0]["entities"].to_pylist())
    assert "'source': 'llm'" in str(tables[1]["answers"].to_pylist())


def test_without_the_cache_such_a_run_would_write_other_bytes(shard, tmp_path):
    for night in range(2):
        write(judged(read(shard), shard, backend=moody(night)), tmp_path / str(night))
    assert files_of(tmp_path / "0") != files_of(tmp_path / "1")
