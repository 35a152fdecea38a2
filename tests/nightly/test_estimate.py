"""What `linkner estimate` says, against what the steps of a run do on the same documents."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from examples.demo import OWN_LLM
from linkner_ray.cli import main
from linkner_ray.config import RoutingConfig
from linkner_ray.errors import ConfigError
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.extract.report import describe_plan
from linkner_ray.nightly.estimate import SampleSettings, estimate_run
from linkner_ray.nightly.estimate_report import describe_estimate
from linkner_ray.readers import read_units
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.classify_spans import ClassifySpans
from linkner_ray.stages.recognize_spans import RecognizeSpans
from linkner_ray.stages.route_spans import RouteSpans
from linkner_ray.stages.split_sentences import SplitSentences
from tests.crawl import (
    config_of,
    overrides,
    text_of,
    write_checkpoint,
    write_parquet,
    write_thresholds,
)
from tests.fakes import ScriptedBackend
from tests.linking.made import write_link
from tests.spanner.tiny import LABELS

LLM = ["llm.backend=openai", "llm.base_url=http://127.0.0.1:9/v1", "llm.model=judge"]


def planned(crawl, checkpoint, *more):
    return plan_extraction(config_of(*overrides(crawl, "/nowhere", checkpoint, *LLM, *more)))


def recognized(plan, *more):
    """The same input as a run sends it through the stages, a table a shard."""
    split, recognize = SplitSentences(plan.config.sentences), RecognizeSpans(plan.config.recognize)
    for source in plan.sources:
        units = read_units(source, config=plan.config.input, errors_raw_chars=9, done={})
        table = pa.concat_tables([unit.documents for unit in units])
        for stage in (split, recognize, *more):
            table = stage(table)
        yield table


def routes_in(table):
    return [route for row in table["routes"].to_pylist() for route in row]


def test_a_threshold_by_name_is_planned_by_its_number(crawl, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    with pytest.raises(ConfigError, match="linkner calibrate"):
        planned(crawl, checkpoint, "routing.threshold_for=asked=5%")
    write_thresholds(tmp_path / "checkpoint", {5: 0.45})
    by_name = planned(crawl, checkpoint, "routing.threshold_for=asked=5%")
    assert by_name.fingerprint == planned(crawl, checkpoint, "routing.threshold=0.45").fingerprint
    assert by_name.fingerprint["config"]["routing"]["threshold"] == 0.45
    estimate = estimate_run(by_name, SampleSettings(documents=5, thresholds=(0.0,)))
    assert [row.threshold for row in estimate.rows] == [0.0, 0.45]


def test_an_input_in_other_languages_is_warned_about_before_the_run(crawl, checkpoint, caplog):
    plan = replace(planned(crawl, checkpoint), languages=("de",))
    estimate_run(plan, SampleSettings(documents=5))
    assert "documents are in languages that the checkpoint was not trained on (de): en " in (
        caplog.text
    )


@pytest.mark.parametrize("threshold", [0.3, 0.45])
def test_a_sample_of_everything_says_what_a_run_does(crawl, checkpoint, threshold):
    plan = planned(crawl, checkpoint, f"routing.threshold={threshold}", "routing.audit_share=0.2")
    estimate = estimate_run(plan, SampleSettings(documents=1000))
    backend = ScriptedBackend(LABELS, lambda _: "PER")
    done = list(
        recognized(
            plan,
            RouteSpans(RoutingConfig(threshold=threshold, audit_share=0.2)),
            ClassifySpans(backend, LABELS, config=plan.config.llm),
        )
    )
    routes = [route for table in done for route in routes_in(table)]
    [row] = [row for row in estimate.rows if row.threshold == threshold]
    assert 0 < row.routed < estimate.candidates
    assert (row.routed, row.audited) == (routes.count("llm"), routes.count("audit"))
    assert row.same_name == routes.count("same_name") > 0
    assert row.asked == row.routed + row.audited
    assert row.questions == len(backend.requests) < row.asked
    texts = [text for table in done for text in table["text"].to_pylist()]
    assert estimate.documents == len(texts)
    assert estimate.characters == sum(map(len, texts))
    assert estimate.candidates == len(routes)
    characters = [sum(len(text) for _, text in one.messages) for one in backend.requests]
    assert row.prompt_tokens == sum(-(-count // 4) for count in characters)
    assert not estimate.tokens_are_exact


def test_a_part_of_the_documents_stands_for_all_of_them(checkpoint, tmp_path):
    (tmp_path / "crawl").mkdir()
    for number in range(4):
        texts = [text_of(100 * number + index) for index in range(40)]
        write_parquet(tmp_path / "crawl" / f"{number}.parquet", texts, group=5)
    plan = planned(tmp_path / "crawl", checkpoint)
    part = estimate_run(plan, SampleSettings(documents=40))
    whole = estimate_run(plan, SampleSettings(documents=1000))
    assert (part.sampled_documents, whole.sampled_documents) == (40, 160)
    assert part.documents == whole.documents == 160
    # The pages are much alike, so a quarter of them gives their size within a tenth. What a model
    # of random weights finds in them differs more; a sample that is not scaled is off by 300 %.
    for name in ("characters", "words"):
        assert getattr(part, name) == pytest.approx(getattr(whole, name), rel=0.1)
    assert part.candidates == pytest.approx(whole.candidates, rel=0.25)
    assert part.rows[0].routed == pytest.approx(whole.rows[0].routed, rel=0.25)
    again = estimate_run(plan, SampleSettings(documents=40))
    assert (again.candidates, again.rows) == (part.candidates, part.rows)


def test_hours_follow_from_words_questions_rates_and_actors(crawl, checkpoint):
    plan = planned(crawl, checkpoint, "resources.llm_actors=2", "resources.encoder_actors=4")
    estimate = estimate_run(plan, SampleSettings(documents=1000, requests_per_s=0.5))
    expected = estimate.words / estimate.words_per_s / 4 / 3600
    assert estimate.encoder_hours == pytest.approx(expected)
    for row in estimate.rows:
        # two engines at half a request a second: a question a second
        assert row.llm_hours == pytest.approx(row.questions / 3600)


def test_a_price_is_that_of_tokens_and_of_the_engines_gpus(crawl, checkpoint):
    prices = ["llm.price_per_million_tokens=3", "llm.price_per_gpu_hour=2"]
    engines = ["resources.llm_actors=2", "resources.llm_gpus=2"]
    plan = planned(crawl, checkpoint, *prices, *engines)
    estimate = estimate_run(plan, SampleSettings(documents=1000, requests_per_s=0.5))
    row = estimate.rows[0]
    # four GPUs at work for a second a question
    expected = 3 * row.prompt_tokens / 10**6 + 2 * 4 * row.questions / 3600
    assert row.price == pytest.approx(expected)
    page = describe_estimate(estimate, plan.config)
    assert f"| {row.questions:,} | {row.questions / estimate.documents:.1f} |" in page
    assert f"| {row.price:,.2f} |" in page
    # Hours without a rate are not known, and neither is what they cost.
    assert estimate_run(plan, SampleSettings(documents=1000)).rows[0].price is None


def test_what_is_known_needs_no_tokens_and_no_hours(crawl, checkpoint):
    plan = planned(crawl, checkpoint)
    settings = SampleSettings(documents=1000, thresholds=(0.3,), requests_per_s=1.0)
    asked: list[str] = []

    def is_known(keys):
        asked.extend(keys)
        return [True] * len(keys)

    known = estimate_run(plan, settings, is_known=is_known)
    unknown = estimate_run(plan, settings)
    for with_cache, without in zip(known.rows, unknown.rows, strict=True):
        assert with_cache.known == with_cache.questions == without.questions > 0
        assert (with_cache.prompt_tokens, with_cache.llm_hours) == (0, 0.0)
        assert without.known is None
    assert all(key.startswith("k1:") for key in asked)


@pytest.mark.parametrize(
    ("budget", "asked"), [("50 calls", 50), ("10%", None), ("1000000 calls", -1)]
)
def test_a_budget_caps_what_is_asked(crawl, checkpoint, budget, asked):
    plan = planned(crawl, checkpoint, f"routing.budget={budget}")
    estimate = estimate_run(plan, SampleSettings(documents=1000, thresholds=(0.3,)))
    cap = {None: round(estimate.candidates / 10), -1: 10**6}.get(asked, asked)
    for row in estimate.rows:
        assert row.asked == min(cap, row.routed)


def test_prompts_are_counted_by_the_tokenizer_of_a_local_llm(crawl, checkpoint):
    plan = planned(crawl, checkpoint, "llm.backend=vllm", f"llm.model={OWN_LLM}")
    estimate = estimate_run(plan, SampleSettings(documents=5, thresholds=(0.0,)))
    assert estimate.tokens_are_exact
    assert estimate.rows[0].prompt_tokens > estimate.rows[0].questions
    assert "counted by the LLM's tokenizer" in describe_estimate(estimate, plan.config)


def test_an_input_without_documents_is_planned_too(checkpoint, tmp_path):
    write_parquet(tmp_path / "a.parquet", [None])
    estimate = estimate_run(planned(tmp_path, checkpoint), SampleSettings())
    assert (estimate.documents, estimate.candidates, estimate.encoder_hours) == (0, 0, 0.0)
    assert {row.asked for row in estimate.rows} == {0}


def test_a_run_without_an_llm_is_planned_too(crawl, checkpoint):
    """Its model is "", which as a folder would be the working directory."""
    plan = plan_extraction(config_of(*overrides(crawl, "out", checkpoint)))
    assert plan.config.llm.model == ""
    assert estimate_run(plan, SampleSettings(documents=5)).words > 0


def write_link_of(plan, folder, **changes):
    return write_link(folder / "link.json", plan.config, plan.label_set, **changes)


@pytest.mark.parametrize("budget", ["none", "5%"])
def test_with_a_link_rows_are_by_expected_gain_and_say_what_f1_dev_had(
    crawl, checkpoint, tmp_path, budget
):
    linked = write_link_of(planned(crawl, checkpoint), tmp_path)
    more = [] if budget == "none" else [f"routing.budget={budget}"]
    plan = planned(crawl, checkpoint, linked, "routing.min_gain=0.47", *more)
    estimate = estimate_run(plan, SampleSettings(documents=1000, min_gains=(0.6, 1e-9)))

    assert [row.min_gain for row in estimate.rows] == [1e-9, 0.47, 0.6]
    assert {row.threshold for row in estimate.rows} == {None}
    most, own, least = estimate.rows
    assert most.routed > own.routed > least.routed
    chain = Chain.of(plan.config, plan.label_set)
    routes = [one for table in recognized(plan, chain.route()) for one in routes_in(table)]
    assert own.asked == min(own.routed, round(estimate.candidates / 20) if more else own.routed)
    assert own.routed + own.same_name == len(routes) - routes.count("local")
    for row in estimate.rows:
        share = row.asked * (1 + row.same_name / max(1, row.routed)) / estimate.candidates
        assert row.dev_f1 == pytest.approx(chain.link.f1_at(share), abs=1e-3)
    assert most.questions >= own.questions >= least.questions
    page = describe_estimate(estimate, plan.config)
    assert "| 0.47 (config) |" in page
    assert f"| {100 * own.dev_f1:.2f} |" in page
    assert "60.00 by the local model and 90.00 with all answers" in page


def test_an_llm_that_gains_nothing_is_asked_nothing(crawl, checkpoint, tmp_path):
    linked = write_link_of(planned(crawl, checkpoint), tmp_path, gain=0.01)
    plan = planned(crawl, checkpoint, linked, "routing.audit_share=1")
    # To be measured the LLM would be started, and nobody listens at its address.
    settings = SampleSettings(documents=1000, measure_llm=True)

    estimate = estimate_run(plan, settings)

    [row] = estimate.rows
    assert (row.routed, row.audited, row.questions, row.prompt_tokens) == (0, 0, 0, 0)
    assert row.dev_f1 == 0.6
    assert "the LLM is not started" in describe_estimate(estimate, plan.config)
    assert "the LLM is not started" in describe_plan(plan)
    assert " llm x " not in describe_plan(plan)


def test_thresholds_are_not_compared_where_a_link_decides(crawl, checkpoint, tmp_path, capsys):
    linked = write_link_of(planned(crawl, checkpoint), tmp_path)
    arguments = overrides(crawl, "/nowhere", checkpoint, *LLM, linked)

    assert main(["estimate", *arguments, "--threshold", "0.4"]) == 2
    assert "leave --threshold out" in capsys.readouterr().err


def test_the_command_prints_a_table_and_writes_json(crawl, checkpoint, tmp_path, capsys):
    target = tmp_path / "plan.json"
    arguments = overrides(crawl, "/nowhere", checkpoint, *LLM, "routing.budget=10%")
    options = ["--documents", "10", "--threshold", "0.4", "--json", str(target)]
    assert main(["estimate", *arguments, *options]) == 0
    page = capsys.readouterr().out
    fingerprint = json.loads(target.read_text())
    assert [row["threshold"] for row in fingerprint["rows"]] == [0.1, 0.4]
    assert f"| 0.1 (config) | {fingerprint['rows'][0]['routed']:,} |" in page
    assert "within routing.budget = '10%'" in page
    assert "LLM hours need a rate" in page
