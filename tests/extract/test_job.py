"""Whole runs of extraction on a real Ray, with a random local model."""

import json
import math
import random

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from linkner_ray.errors import ConfigError, StartupError
from linkner_ray.extract import pipeline
from linkner_ray.extract.job import extract
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.extract.report import describe_plan, summarise, write_run_report
from linkner_ray.runs.manifest import verify_output
from linkner_ray.storage import Folder
from tests.crawl import (
    NUM_JSONL,
    NUM_PARQUET,
    NUM_WET,
    config_of,
    files_of,
    overrides,
    text_of,
    write_parquet,
)
from tests.endpoint_server import Server, completion
from tests.linking.made import write_link
from tests.local_pipeline import extract_here

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("two_cpus"),
]

FOLDERS = ("entities", "candidates", "_quarantine")

NUM_DOCUMENTS = NUM_PARQUET + NUM_JSONL + NUM_WET


@pytest.fixture(scope="module")
def finished(tmp_path_factory, checkpoint, crawl):
    """A plan, its result and its output folder."""
    output = tmp_path_factory.mktemp("runs") / "out"
    plan = plan_extraction(config_of(*overrides(crawl, output, checkpoint)))
    result = extract(plan)
    write_run_report(plan, result)
    return plan, result, output


def run(crawl, output, checkpoint, *more):
    return extract(plan_extraction(config_of(*overrides(crawl, output, checkpoint, *more))))


def entity_rows(output):
    return ds.dataset(output / "entities").to_table().sort_by("doc_id").to_pylist()


def test_every_document_ends_in_exactly_one_place(finished):
    _, result, output = finished
    rows = entity_rows(output)
    quarantine = ds.dataset(output / "_quarantine").to_table().to_pylist()
    assert result.totals["documents_read"] == NUM_DOCUMENTS
    assert len({row["doc_id"] for row in rows}) == len(rows) == NUM_DOCUMENTS - 2
    assert sorted(row["reason"] for row in quarantine) == ["bad_json", "null_text"]
    assert {row["doc_id"]: row["status"] for row in rows}["p7"] == "empty"


def test_documents_of_all_formats_keep_their_ids_and_text(finished):
    _, _, output = finished
    texts = {row["doc_id"]: row["text"] for row in entity_rows(output)}
    assert texts["p12"] == text_of(12)
    assert texts["j8"] == text_of(48)
    assert texts["urn:test:w3"] == text_of(63)


def test_the_manifest_lists_the_files_that_are_there_with_their_rows(finished):
    _, result, output = finished
    manifest = json.loads((output / "_manifest.json").read_text())
    files = pq.read_table(output / "_manifest.parquet").to_pylist()
    listed = {file["path"]: file["rows"] for file in files if file["source"] is not None}
    there = {
        f"entities/{p.name}": pq.read_metadata(p).num_rows for p in (output / "entities").iterdir()
    }
    assert listed == there
    assert manifest["totals"] == result.totals
    num_files = sum(len(list((output / n).iterdir())) for n in FOLDERS)
    assert verify_output(Folder.at(str(output))) == (num_files, [])
    assert {file["path"].partition("/")[0] for file in files if file["source"] is None} == {
        "_quarantine",
        "candidates",
    }
    assert (output / "_SUCCESS").exists()


def test_a_finished_run_started_again_does_nothing(finished):
    plan, _, output = finished
    before = files_of(output)
    again = extract(plan)
    assert again.units_written == 0
    assert "nothing to do" in summarise(plan, again)
    assert files_of(output) == before


@pytest.mark.usefixtures("without_ray")
def test_other_units_in_another_order_give_the_same_rows(finished, checkpoint, crawl, tmp_path):
    _, _, output = finished
    run(crawl, tmp_path / "out", checkpoint, "input.unit_documents=3", "recognize.batch_tokens=64")
    drop_scores = [strip_scores(row) for row in entity_rows(tmp_path / "out")]
    assert drop_scores == [strip_scores(row) for row in entity_rows(output)]


@pytest.mark.soak
def test_block_layouts_worker_counts_and_orders_leave_no_trace(
    finished, checkpoint, crawl, tmp_path, monkeypatch
):
    _, _, output = finished
    wanted = files_of(output)
    del wanted["_run.json"]  # names the output folder
    shards = sorted(str(path) for path in crawl.iterdir())
    layouts = {
        # all shards in one block, and units of any number in each that follows
        "merged": (1, 128 * 2**20, [f"input.paths=[{crawl}]"]),
        "spread": (4096, 1, [f"input.paths=[{','.join(shards[::-1])}]", *TWO_ENCODERS]),
    }
    for name, (source_blocks, block_bytes, arguments) in layouts.items():
        monkeypatch.setattr(pipeline, "MAX_SOURCE_BLOCKS", source_blocks)
        monkeypatch.setattr(pipeline, "ONE_ROW_BLOCKS", block_bytes)
        run(crawl, tmp_path / name, checkpoint, *arguments)
        found = files_of(tmp_path / name)
        del found["_run.json"]
        assert found == wanted, name


TWO_ENCODERS = [
    "resources.encoder_actors=2", "resources.encoder_cpus=0.6", "resources.write_cpus=0.2",
]  # fmt: skip


def strip_scores(row):
    kept = ("start", "end", "label", "text")
    return row["doc_id"], [tuple(entity[name] for name in kept) for entity in row["entities"]]


def test_the_plan_can_be_read_before_anything_starts(checkpoint, tmp_path):
    write_parquet(tmp_path / "a\x1b[2J.parquet", [text_of(1)] * 12)
    plan = plan_extraction(config_of(*overrides(tmp_path, tmp_path / "out", checkpoint)))
    page = describe_plan(plan)
    assert "1 shard, " in page
    assert f"{tmp_path}/a\N{SYMBOL FOR ESCAPE}[2J.parquet  parquet" in page
    assert "3 units" in page
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("without_ray")
def test_a_shard_that_changed_under_a_run_is_refused(checkpoint, tmp_path):
    shard = tmp_path / "crawl" / "a.parquet"
    shard.parent.mkdir()
    write_parquet(shard, [text_of(1)])
    run(shard.parent, tmp_path / "out", checkpoint)
    write_parquet(shard, [text_of(1), text_of(2)])
    with pytest.raises(ConfigError, match=r"shards that have changed .*a.parquet"):
        run(shard.parent, tmp_path / "out", checkpoint)


def test_a_plan_that_would_hang_is_refused(checkpoint, crawl, tmp_path):
    with pytest.raises(ConfigError, match=r"needs 2.4 CPUs at once"):
        run(crawl, tmp_path / "out", checkpoint, "resources.encoder_cpus=2")


def test_an_llm_that_does_not_load_stops_the_run_with_its_name(checkpoint, crawl, tmp_path):
    llm = ["llm.backend=vllm", f"llm.model={tmp_path / 'no-model'}"]
    with pytest.raises(StartupError, match="no-model"):
        run(crawl, tmp_path / "out", checkpoint, *llm)


class Certain(Server):
    """Says A (the first label) to every question about a capitalised span, else non-entity."""

    def __init__(self) -> None:
        super().__init__()
        self.reply = self._judge

    def _judge(self, _number, body):
        question = body["messages"][-1]["content"]
        span = question.rpartition("[[")[2].partition("]]")[0]
        symbol = "A" if span[:1].isupper() else "D"
        return 200, completion(symbol, {symbol: 0.9, "B": 0.1})


@pytest.fixture
def endpoint():
    server = Certain()
    yield server
    server.close()


@pytest.mark.usefixtures("without_ray")
def test_the_llm_decides_uncertain_spans_and_only_those(checkpoint, crawl, endpoint, tmp_path):
    llm = ["llm.backend=openai", f"llm.base_url={endpoint.url}", "llm.model=judge"]
    result = run(crawl, tmp_path / "out", checkpoint, *llm, "routing.threshold=0.3")
    totals = result.totals
    assert totals["routed"] > 0
    assert totals["verdict_label"] + totals["verdict_non_entity"] == totals["routed"]
    assert totals["questions"] <= totals["routed"]
    for row in entity_rows(tmp_path / "out"):
        for entity in row["entities"]:
            if entity["source"] in ("llm", "same_name"):
                assert entity["text"][0].isupper()
                assert entity["label"] == entity["llm_label"] == "PER"
                assert math.isclose(entity["score"], 0.9, rel_tol=1e-5)
            else:
                assert entity["source"] == "local"
                assert entity["uncertainty"] < 0.3


@pytest.mark.usefixtures("without_ray")
def test_a_run_whose_llm_gains_nothing_starts_none_and_reports_why(checkpoint, crawl, tmp_path):
    nobody = ["llm.backend=openai", "llm.base_url=http://127.0.0.1:9/v1", "llm.model=judge"]
    arguments = overrides(crawl, tmp_path / "out", checkpoint, *nobody)
    bare = plan_extraction(config_of(*arguments))
    linked = write_link(tmp_path / "link.json", bare.config, bare.label_set, gain=0.03)
    plan = plan_extraction(config_of(*arguments, linked, "routing.audit_share=1"))

    result = extract(plan)
    (tmp_path / "link.json").unlink()  # the record says all
    write_run_report(plan, result)

    assert result.totals["questions"] == 0
    kept = json.loads((tmp_path / "out" / "_run.json").read_text())["plan"]["link"]
    del kept["digest"]
    assert kept == {
        "f1": 0.6, "f1_all_asked": 0.9, "gain": 0.03, "gain_error": 0.02, "asks": False,
    }  # fmt: skip
    page = (tmp_path / "out" / "report.md").read_text()
    assert "60.00 by the local model and 90.00 with all answers; the answers gain +3.00" in page
    assert "so the LLM is not started" in page
    assert set(json.loads((tmp_path / "out" / "report.json").read_text())["timeline"]["pools"]) == {
        "encoder"
    }


@pytest.mark.usefixtures("without_ray")
def test_a_budget_in_calls_holds_and_a_resumed_run_asks_the_same(
    checkpoint, crawl, endpoint, tmp_path
):
    llm = ["llm.backend=openai", f"llm.base_url={endpoint.url}", "llm.model=judge"]
    budget = ["routing.threshold=0.3", "routing.budget=40 calls"]
    arguments = overrides(crawl, tmp_path / "out", checkpoint, *llm, *budget)
    plan = plan_extraction(config_of(*arguments))
    result = extract(plan)
    totals = result.totals
    assert 0 < totals["routed"] <= 40
    assert totals["over_budget"] > 0
    parts = ("routed", "same_name", "over_budget", "stayed_local")
    assert totals["candidates"] == sum(totals[part] for part in parts)
    assert f"over budget        {totals['over_budget']:,}" in summarise(plan, result)
    before = files_of(tmp_path / "out")
    for part in sorted((tmp_path / "out" / "entities").iterdir())[1::2]:
        part.unlink()
    extract(plan)
    assert files_of(tmp_path / "out") == before
    write_parquet(tmp_path / "more.parquet", [text_of(99)], first=900)
    more = [f"input.paths=[{crawl}, {tmp_path / 'more.parquet'}]"]
    with pytest.raises(ConfigError, match="budget_over"):
        extract(plan_extraction(config_of(*arguments, *more)))


@pytest.mark.usefixtures("without_ray")
def test_an_audit_asks_certain_spans_and_changes_nothing(checkpoint, crawl, endpoint, tmp_path):
    llm = ["llm.backend=openai", f"llm.base_url={endpoint.url}", "llm.model=judge"]
    plain = run(crawl, tmp_path / "plain", checkpoint, *llm, "routing.threshold=0.5")
    audit = ["routing.threshold=0.5", "routing.audit_share=0.5"]
    audited = run(crawl, tmp_path / "audited", checkpoint, *llm, *audit)
    assert entity_rows(tmp_path / "plain") == entity_rows(tmp_path / "audited")
    assert audited.totals["audited"] > 0
    assert audited.totals["questions"] > plain.totals["questions"]
    assert audited.totals["routed"] == plain.totals["routed"]
    outcomes = [n for name, n in audited.totals.items() if name.startswith("audit_")]
    assert sum(outcomes) == audited.totals["audited"]


@pytest.mark.usefixtures("without_ray")
def test_audits_without_an_answer_count_as_failures(checkpoint, crawl, endpoint, tmp_path):
    llm = ["llm.backend=openai", f"llm.base_url={endpoint.url}", "llm.model=judge"]
    first = iter([True])
    judge = endpoint.reply
    endpoint.reply = lambda *call: judge(*call) if next(first, False) else (400, {"error": "no"})
    audit = ["routing.threshold=1", "routing.audit_share=0.5", "llm.max_retries=0"]
    result = run(crawl, tmp_path / "out", checkpoint, *llm, *audit)
    assert result.totals["verdict_failed"] == 0 < result.totals["audited"]
    [problem] = result.problems
    assert f"{result.totals['audited']} of {result.totals['audited']} spans that were" in problem


class Moody(Server):
    """Never gives the same probabilities twice, and remembers what it was asked."""

    def __init__(self):
        super().__init__()
        dice = random.Random(7)

        def reply(_number, _body):
            weights = {symbol: dice.random() + 0.01 for symbol in "ABCD"}
            total = sum(weights.values())
            return 200, completion("A", {s: weight / total for s, weight in weights.items()})

        self.reply = reply

    def questions(self):
        """What was asked, but for the question each backend asks when it starts."""
        asked = [body["messages"][1]["content"] for body in self.bodies]
        return [text for text in asked if "Ada Lovelace was born" not in text]


@pytest.fixture
def moody():
    server = Moody()
    yield server
    server.close()


def test_a_second_run_with_the_cache_asks_nothing_and_writes_the_same_bytes(
    checkpoint, crawl, moody, tmp_path
):
    llm = ["llm.backend=openai", f"llm.base_url={moody.url}", "llm.model=judge"]
    settings = [*llm, "routing.threshold=0.3", f"cache.path={tmp_path / 'cache'}"]
    # Pages of the crawl share lines, so two actors are told of the same question at once.
    first = run(crawl, tmp_path / "one", checkpoint, *settings, *TWO_LLM_ACTORS)
    asked = moody.questions()
    assert first.costs["questions_asked"] > 0
    assert len(asked) >= len(set(asked)) > 0
    moody.bodies.clear()
    arguments = overrides(crawl, tmp_path / "two", checkpoint, *settings)
    plan, second = plan_extraction(config_of(*arguments)), extract_here(*arguments)
    write_run_report(plan, second)
    assert moody.questions() == []
    assert second.costs["questions_asked"] == second.costs["prompt_tokens_asked"] == 0
    assert second.costs["questions_from_cache"] == second.totals["questions"] > 0
    one, two = (files_of(tmp_path / name) for name in ("one", "two"))
    del one["_run.json"], two["_run.json"]  # names the output folder
    assert one == two
    page = (tmp_path / "two" / "report.md").read_text()
    hits = f"{second.totals['questions']:,}"
    assert f"| - not asked again: answers from the answer cache | {hits} |" in page
    assert f"{hits} from the answer cache" in summarise(plan, second)


TWO_LLM_ACTORS = [
    "resources.llm_actors=2", "resources.llm_cpus=0.3", "resources.encoder_cpus=0.5",
    "resources.llm_concurrent_units=2",
]  # fmt: skip


def test_an_llm_folder_is_part_of_the_plan_by_its_content(checkpoint, crawl, tmp_path):
    llm = tmp_path / "llm"
    llm.mkdir()
    (llm / "config.json").write_text("{}")
    arguments = overrides(crawl, tmp_path / "out", checkpoint, "llm.backend=vllm")
    before = plan_extraction(config_of(*arguments, f"llm.model={llm}"))
    (llm / "config.json").write_text('{"hidden_size": 8}')
    after = plan_extraction(config_of(*arguments, f"llm.model={llm}"))
    assert before.fingerprint["llm"] != after.fingerprint["llm"]
    with_cache = plan_extraction(
        config_of(*arguments, f"llm.model={llm}", f"cache.path={tmp_path / 'cache'}")
    )
    assert with_cache.digest == after.digest
