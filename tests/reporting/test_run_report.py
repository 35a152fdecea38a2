"""Reports: every number of the page and the JSON comes from the totals."""

import json
import re
from dataclasses import replace

import matplotlib as mpl
import pytest

from linkner_ray.corpora.scores import Counts, Scores
from linkner_ray.reporting.run_report import (
    ReportScores,
    RunReport,
    render_markdown,
    report_json,
    write_report,
)
from linkner_ray.reporting.unit_report import UnitReport, report_units
from linkner_ray.runs.timeline import PoolUse, Timeline
from tests.pages import Page

TOTALS = {
    "documents_read": 1200,
    "documents_entities": 900,
    "documents_empty": 297,
    "documents_quarantined": 3,
    "characters_total": 5_000_000,
    "candidates_predicted": 700,
    "candidates_near_miss": 100,
    "routed": 200,
    "verdict_label": 150,
    "verdict_failed": 1,
    "entities": 650,
    "entities_PER": 650,
    "entities_source_local": 600,
    "entities_source_llm": 50,
    "source_local_PER": 600,
    "source_llm_PER": 50,
    "quarantine_null_text": 2,
    "quarantine_too_long": 1,
    "records_skipped_warcinfo": 4,
}


def unit(number, **seconds):
    return UnitReport(
        name=f"u-{number}",
        source="s3://crawl/a_b|c.parquet",
        documents=10,
        characters=1000,
        seconds=seconds,
    )


def run_report(**changes):
    values = {
        "title": "Extraction",
        "run_id": "r1",
        "totals": TOTALS,
        "labels": ("PER", "ORG"),
        "routing_threshold": 0.1,
        "config": {"input": {"paths": ("a", "b"), "lang_column": None}},
        "versions": {"linkner-ray": "0.1.0"},
        "seconds": {"plan": 0.5, "extract": 2000.0},
        "units": [unit(1, ReadDocuments=1.0, RecognizeSpans=3.0), unit(2, ReadDocuments=0.5)],
    }
    values |= changes
    return RunReport(**{**values, "units": report_units(values["units"])})


TIMELINE = Timeline(
    began=1000.0,
    seconds=40.0,
    units={"ReadDocuments": [1.0, 0.5], "RecognizeSpans": [0.0, 2.0]},
    pools={
        "encoder": PoolUse(actors=2, busy_s=60.0, wall_s=40.0),
        "llm": PoolUse(actors=1, busy_s=0.0, wall_s=40.0),
    },
)


@pytest.fixture
def scores():
    local = Scores({"PER": Counts(true_positives=1, false_positives=1, false_negatives=1)})
    linked = Scores({"PER": Counts(true_positives=2)})
    return ReportScores(name="demo", local=local, linked=linked)


def test_the_page_says_what_came_in_what_came_out_and_what_was_asked():
    page = render_markdown(run_report())
    assert "1,200 documents in, 650 entities out. 200 of 800 candidates (25.0 %)" in page
    assert "| with entities | 900 | 75.0 % |" in page
    assert "| PER | 650 | 600 | 50 |" in page
    assert "| ORG | 0 | 0 | 0 |" in page
    assert "| label | 150 | 75.0 % |" in page
    assert "| - no documents: warcinfo | 4 |" in page


def test_the_page_says_what_the_llm_put_on_the_options_at_its_start():
    two_units = {"units_after_llm_start": 2, "start_option_mass_ppm": 100_000 + 50_000}
    run = run_report(totals={**TOTALS, **two_units})
    assert "the LLM put a probability of 0.075 on the options" in render_markdown(run)
    assert json.loads(report_json(run))["start_option_mass"] == 0.075
    assert "At its start" not in render_markdown(run_report())


def test_the_page_says_what_1000_documents_took():
    figures = {
        "questions": 76_000.0, "prompt_tokens": 21_508_000.0, "prompt_tokens_computed": 4e6,
        "seconds": 1800.0, "price": 18.754,
    }  # fmt: skip
    run = run_report(per_1000_documents=figures)
    page = render_markdown(run)
    assert "| questions asked | 76,000 |\n| prompt tokens of these | 21,508,000 |" in page
    assert "| - computed; the others were in the engine's prefix cache | 4,000,000 |" in page
    assert "| seconds of the run | 1,800.00 |\n| price, by `llm.price_per_million" in page
    assert "| 18.75 |" in page
    assert json.loads(report_json(run))["per_1000_documents"] == figures
    assert "for each 1,000" not in render_markdown(run_report())


def test_audits_are_reported_by_label_with_what_could_be_read_as_the_whole():
    totals = {
        **TOTALS,
        "audited": 6,
        "audit_agree_PER": 3,
        "audit_disagree_PER": 1,
        "audit_failed_PER": 1,
        "audit_unreadable_ORG": 1,
        "over_budget": 40,
    }
    page = render_markdown(run_report(totals=totals))
    assert "| PER | 5 | 3 | 1 | 1 | 75.0 % |" in page
    assert "| ORG | 1 | 0 | 0 | 1 | - |" in page
    assert "| all | 6 | 3 | 1 | 2 | 75.0 % |" in page
    assert "| wanted too, left local by the budget | 40 |" in page
    assert "until the budget is spent." in page
    assert "audited" not in render_markdown(run_report())


def test_a_run_with_a_link_says_how_it_chose_whom_to_ask():
    config = {"routing": {"min_gain": 0.02}}
    totals = {**TOTALS, "over_budget": 40}
    page = render_markdown(run_report(routing_threshold=None, config=config, totals=totals))
    assert "expected to put at least 0.02 entities right, the most promising of each unit" in page
    assert "from the uncertainty" not in page
    files = {}
    write_report(run_report(routing_threshold=None, config=config), write_bytes=files.__setitem__)
    assert json.loads(files["report.json"])["routing_threshold"] is None


def test_languages_are_listed_with_what_was_read_and_skipped():
    languages = {
        "documents_language_en": 90,
        "documents_language_und": 10,
        "records_skipped_language_de": 1_200,
        "records_skipped_language_und": 1,
        "records_skipped_filter": 3,
    }
    page = render_markdown(run_report(totals=TOTALS | languages))
    # In the order of both together
    assert "| de | 0 | 1,200 |\n| en | 90 | 0 |\n| und | 10 | 1 |\n" in page
    assert "| - in other languages than those of input.languages | 1,201 |" in page
    assert "| - left out by input.filter | 3 |" in page
    assert "language_" not in page
    assert "| language |" not in render_markdown(run_report())


def test_errors_are_listed_by_reason_the_most_frequent_first():
    page = render_markdown(run_report())
    assert page.index("| null_text | 2 |") < page.index("| too_long | 1 |")
    clean = {name: n for name, n in TOTALS.items() if not name.startswith("quarantine_")}
    assert "Nothing was quarantined." in render_markdown(run_report(totals=clean))


def test_seconds_of_a_stage_are_summed_over_units():
    run = run_report()
    assert run.units.stage_seconds == {"ReadDocuments": 1.5, "RecognizeSpans": 3.0}
    page = render_markdown(run)
    assert "| extract | 2,000.0 |" in page
    # 2 units of 1,000 characters in 1.5 s; between 0.5 and 1.0 s
    assert "| ReadDocuments | 1.50 | 1,333 | 0.75 | 0.95 | 0.99 | 1.00 |" in page
    assert "The slowest of 2 units that this run did:" in page


def test_the_page_says_how_busy_the_pools_were():
    page = render_markdown(run_report(timeline=TIMELINE))
    assert "| encoder | 2 | 60.0 | 75.0 % |" in page  # 60 of 2 x 40 s
    assert "| llm | 1 | 0.0 | 0.0 % |" in page
    assert "| pool |" not in render_markdown(run_report())
    fingerprint = json.loads(report_json(run_report(timeline=TIMELINE)))
    assert fingerprint["timeline"]["pools"]["encoder"]["share"] == 0.75
    assert fingerprint["timeline"]["units"]["RecognizeSpans"] == [0.0, 2.0]


def test_units_of_an_earlier_run_do_not_count_as_fast():
    page = render_markdown(run_report(units=[unit(1, ReadDocuments=1.0), unit(2)]))
    assert "| ReadDocuments | 1.00 | 1,000 |" in page
    assert "of 1 unit that this run did (an earlier one had done 1):" in page


def test_text_from_outside_cannot_break_a_table_or_bring_html():
    page = render_markdown(run_report(notes=["<script>alert(1)</script>\n# not a heading"]))
    assert r"> \<script\>alert(1)\</script\> \# not a heading" in page
    assert r"s3://crawl/a_b\|c.parquet" in page


def test_pictures_stand_apart_from_tables():
    page = render_markdown(run_report(), pictures=("entities_by_source", "uncertainty"))
    lines = page.splitlines()
    places = [index for index, line in enumerate(lines) if line.startswith("![")]
    assert len(places) == 2
    assert all(lines[index - 1] == "" for index in places)


def test_the_json_has_stable_keys(scores):
    fingerprint = json.loads(report_json(run_report(scores=[scores])))
    assert fingerprint["totals"] == TOTALS
    assert fingerprint["routed_share"] == 0.25
    assert fingerprint["stage_seconds"] == {"ReadDocuments": 1.5, "RecognizeSpans": 3.0}
    assert [unit["name"] for unit in fingerprint["units"]["slowest"]] == ["u-1", "u-2"]
    assert fingerprint["timeline"] is None
    assert fingerprint["scores"]["demo"]["local"]["all"] == {
        "true_positives": 1,
        "false_positives": 1,
        "false_negatives": 1,
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
    }
    assert fingerprint["scores"]["demo"]["linked"]["PER"]["f1"] == 1.0


def test_scores_stand_side_by_side_with_what_was_gained(scores):
    page = render_markdown(run_report(scores=[scores]))
    assert "| PER | 2 | 0.5000 | 0.5000 | 0.5000 | 1.0000 | 1.0000 | 1.0000 | +0.5000 |" in page
    assert "## Scores" not in render_markdown(run_report())


def test_a_report_is_written_whole_with_the_pictures_it_names(scores):
    files = {}
    run = run_report(scores=[scores], timeline=TIMELINE)
    write_report(run, write_bytes=files.__setitem__)
    page = files["report.md"].decode()
    assert sorted(files) == [
        "plots/entities_by_source.png",
        "plots/f1_1.png",
        "plots/seconds_by_stage.png",
        "plots/timeline.png",
        "plots/uncertainty.png",
        "report.html",
        "report.json",
        "report.md",
    ]
    assert all(f"({name})" in page for name in files if name.endswith(".png"))
    html = files["report.html"].decode()
    assert html.count("<svg") == 5
    # Each table of the Markdown has one line that is a rule.
    assert html.count("<table") == len(re.findall(r"^\| ---", page, re.MULTILINE))


def test_text_from_outside_stays_text_on_the_html_page(scores):
    hostile = "<script>alert(1)</script>"
    run = run_report(
        title=hostile,
        labels=(hostile,),
        notes=(hostile,),
        config={"input": {"paths": [f"```` {hostile}"]}},
        versions={hostile: hostile},
        scores=[replace(scores, name=hostile)],
        totals={**TOTALS, f"quarantine_{hostile}": 1},
    )
    files = {}
    write_report(run, write_bytes=files.__setitem__)
    page = Page(files["report.html"].decode())
    assert page.tags.count("script") == 1
    assert page.text.count(hostile) > 6


def test_settings_of_the_users_matplotlib_change_no_report():
    plain, set_up = {}, {}
    write_report(run_report(), write_bytes=plain.__setitem__)
    with mpl.rc_context({"text.usetex": True, "font.size": 20}):  # usetex fails without LaTeX
        write_report(run_report(), write_bytes=set_up.__setitem__)
    assert set_up == plain


def test_a_run_without_units_and_candidates_is_reported_too():
    empty = {"documents_read": 0, "candidates_predicted": 0, "candidates_near_miss": 0}
    totals = {**empty, "routed": 0, "entities": 0}
    files = {}
    write_report(run_report(totals=totals, units=[]), write_bytes=files.__setitem__)
    assert "plots/seconds_by_stage.png" not in files
    assert "| with entities | 0 | - |" in files["report.md"].decode()
