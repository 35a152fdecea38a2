"""Incremental runs: what is redone, and that nobody can tell afterwards.

Whole jobs but for Ray, whose part `tests/extract/test_reuse_on_ray.py` covers.
"""

import json
import shutil
from collections import Counter
from functools import partial

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from linkner_ray.cli import main
from linkner_ray.errors import ConfigError, StartupError
from linkner_ray.extract.job import extract
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.llm.prompts import Verdict
from linkner_ray.runs.previous import open_previous
from tests.crawl import (
    config_of,
    files_of,
    overrides,
    text_of,
    wet_record,
    write_crawl,
    write_parquet,
)
from tests.fakes import ScriptedBackend
from tests.local_pipeline import run_here

EXACT = "recognize.batch_scope=document"


@pytest.fixture(scope="module", autouse=True)
def without_ray():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("linkner_ray.extract.job.run_extraction", run_here)
        yield


def run(crawl, output, checkpoint, *more, previous=None):
    """A run, on top of another where there is one."""
    plan = plan_extraction(config_of(*overrides(crawl, output, checkpoint, EXACT, *more)))
    known = previous and open_previous(str(previous), plan.fingerprint, output=str(output))
    return extract(plan, previous=known)


def twice(crawl, folder, checkpoint, *more, previous):
    """The same plan in full, then incrementally in the same folder: results and files of both.

    `_run.json` holds the output path, so that the two are comparable only under one name.
    """
    output = folder / "tonight"
    full = run(crawl, output, checkpoint, *more)
    expected = files_of(output)
    shutil.rmtree(output)
    quick = run(crawl, output, checkpoint, *more, previous=previous)
    assert files_of(output) == expected
    assert quick.totals == full.totals
    assert len(expected) > 10
    return full, quick


def rows_of(totals):
    return totals["documents_entities"] + totals["documents_empty"]


def redone(costs):
    return {n.removeprefix("redone_"): c for n, c in costs.items() if n.startswith("redone_") and c}


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory, checkpoint):
    """The crawl of a night and its run without an LLM."""
    folder = tmp_path_factory.mktemp("yesterday")
    crawl = write_crawl(folder / "crawl")
    run(crawl, folder / "out", checkpoint)
    return crawl, folder / "out"


def mutate(crawl):
    """Rows added, removed, edited, moved to another shard and row; shards renamed, added, gone.

    Returns:
        Documents whose text the crawl did not have before.
    """
    a, b = (pq.read_table(crawl / f"{name}.parquet").to_pylist() for name in "ab")
    a[0]["text"] = "Berlin is edited . " + a[0]["text"]
    moved = [a.pop(8), a.pop(5)]
    del a[1]
    b.insert(2, {"doc_id": "new", "text": text_of(500)})
    b[3:3] = moved
    b.append({"doc_id": "copy-of-p13", "text": text_of(13)})
    for name, rows in (("a", a), ("renamed", b)):
        texts = [row["text"] for row in rows]
        write_parquet(crawl / f"{name}.parquet", texts)
        table = pq.read_table(crawl / f"{name}.parquet")
        ids = [[row["doc_id"] for row in rows]]
        pq.write_table(
            table.set_column(0, "doc_id", ids), crawl / f"{name}.parquet", row_group_size=5
        )
    (crawl / "b.parquet").unlink()
    (crawl / "c.jsonl").rename(crawl / "z.jsonl")
    (crawl / "d.warc.wet.gz").unlink()
    (crawl / "e.warc.wet").write_bytes(wet_record("w9", text_of(60)) + wet_record("w10", "Rome ."))
    return 3


def test_over_a_mutated_crawl_an_incremental_run_writes_the_bytes_of_a_full_one(
    yesterday, checkpoint, tmp_path
):
    crawl, previous = yesterday
    shutil.copytree(crawl, tmp_path / "crawl")
    num_new = mutate(tmp_path / "crawl")
    full, quick = twice(tmp_path / "crawl", tmp_path, checkpoint, previous=previous)
    assert redone(quick.costs) == {"text_new": num_new}
    assert quick.costs["documents_reused"] == rows_of(full.totals) - num_new > 20
    assert "documents_reused" not in full.costs
    by_shard = Counter()
    for unit in quick.unit_results:
        parts = unit.costs["documents_reused"] + sum(redone(unit.costs).values())
        assert parts == rows_of(unit.counts)
        by_shard[unit.source.rpartition("/")[2]] += unit.costs["documents_reused"]
    assert by_shard["renamed.parquet"] == 8 + 2 + 1  # b's rows, two moved, one copied


class Judge:
    """An LLM that answers by the words of the question, so the same one always the same."""

    def __init__(self):
        self.num_asked = 0
        self.fails = lambda _number: False

    def start(self, chain):
        return ScriptedBackend(chain.label_set, self.answer)

    def answer(self, request):
        self.num_asked += 1
        if self.fails(self.num_asked):
            return Verdict.FAILED
        return request.options[sum(request.question.span.encode()) % 4][1]


@pytest.fixture
def judge(monkeypatch):
    judge = Judge()
    monkeypatch.setattr(
        "linkner_ray.extract.job.run_extraction", partial(run_here, start_llm=judge.start)
    )
    return judge


JUDGE = ["llm.backend=openai", "llm.base_url=http://127.0.0.1:9/v1", "llm.model=judge"]


@pytest.mark.parametrize(
    "change",
    [
        ["routing.threshold=0.3"],
        ["routing.threshold=0.05", "routing.budget=30%"],
        ["routing.budget=40 calls"],
        ["llm.context_sentences=1"],
        ["llm.revision=another"],
    ],
    ids=lambda change: change[0],
)
def test_what_comes_after_the_encoder_can_change_without_it(checkpoint, judge, tmp_path, change):
    """The weights are emptied after planning: whatever loads them fails."""
    crawl = write_crawl(tmp_path / "crawl")
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    more = [*JUDGE, "routing.threshold=0.2"]
    run(crawl, tmp_path / "before", folder, *more)
    full = run(crawl, tmp_path / "out", folder, *more, *change)
    expected = files_of(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    plan = plan_extraction(
        config_of(*overrides(crawl, tmp_path / "out", folder, EXACT, *more, *change))
    )
    (folder / "model.safetensors").write_bytes(b"")
    before = judge.num_asked
    known = open_previous(str(tmp_path / "before"), plan.fingerprint, output=str(tmp_path / "out"))
    quick = extract(plan, previous=known)
    assert files_of(tmp_path / "out") == expected
    assert quick.costs["documents_reused"] == rows_of(full.totals)
    asked = judge.num_asked - before
    if change[0].startswith("llm"):
        assert asked >= quick.costs["questions_asked"] > 0
        assert quick.costs["questions_from_previous"] == 0
    else:
        assert quick.costs["questions_from_previous"] > 0
        assert quick.costs["questions_asked"] < full.costs["questions_asked"]
    if change == ["routing.threshold=0.3"]:
        assert quick.costs["questions_asked"] == 0


def test_such_a_run_does_load_the_encoder_when_a_text_is_new(checkpoint, tmp_path):
    crawl = write_crawl(tmp_path / "crawl")
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    run(crawl, tmp_path / "before", folder)
    write_parquet(crawl / "new.parquet", [text_of(900)])
    plan = plan_extraction(config_of(*overrides(crawl, tmp_path / "out", folder, EXACT)))
    (folder / "model.safetensors").unlink()
    known = open_previous(str(tmp_path / "before"), plan.fingerprint, output=str(tmp_path / "out"))
    with pytest.raises(StartupError, match=r"model.safetensors"):
        extract(plan, previous=known)


def recalibrated(checkpoint, folder):
    shutil.copytree(checkpoint, folder)
    tree = json.loads((folder / "calibration.json").read_text())
    (folder / "calibration.json").write_text(json.dumps({**tree, "temperature": 2.0}))
    return folder


def reweighed(_checkpoint, folder):
    from tests.spanner.tiny import model

    model("roberta", max_width=3).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("reason", "change"), [("calibration", recalibrated), ("encoder", reweighed)]
)
@pytest.mark.usefixtures("judge")
def test_another_checkpoint_is_redone_for_the_part_that_changed(
    checkpoint, tmp_path, reason, change
):
    crawl = write_crawl(tmp_path / "crawl")
    folder = change(checkpoint, tmp_path / "checkpoint")
    run(crawl, tmp_path / "before", checkpoint, *JUDGE)
    full, quick = twice(crawl, tmp_path, folder, *JUDGE, previous=tmp_path / "before")
    assert redone(quick.costs) == {reason: rows_of(full.totals)}
    assert quick.costs.get("documents_reused", 0) == 0
    # the same question about the same text is not asked again
    assert quick.costs["questions_from_previous"] > 0


def test_text_that_is_split_otherwise_is_redone(yesterday, checkpoint, tmp_path):
    crawl, previous = yesterday
    lines = ["sentences.segmenter=lines", "sentences.max_token_chars=8"]
    full, quick = twice(crawl, tmp_path, checkpoint, *lines, previous=previous)
    assert redone(quick.costs) == {"sentences": rows_of(full.totals)}


def test_answers_that_failed_are_asked_for_again(checkpoint, judge, tmp_path):
    crawl = write_crawl(tmp_path / "crawl")
    more = [*JUDGE, "errors.max_failed_answers_share=1"]
    judge.fails = lambda number: number % 3 == 0
    first = run(crawl, tmp_path / "before", checkpoint, *more)
    assert 0 < first.totals["verdict_failed"] < first.totals["routed"]
    judge.fails = lambda _number: False
    _, quick = twice(crawl, tmp_path, checkpoint, *more, previous=tmp_path / "before")
    assert quick.totals["verdict_failed"] == 0
    assert quick.costs["questions_asked"] > 0
    assert quick.costs["questions_from_previous"] > 0


def test_a_night_after_a_night_after_a_night(checkpoint, tmp_path):
    crawl = write_crawl(tmp_path / "crawl")
    run(crawl, tmp_path / "0", checkpoint)
    for night in (1, 2):
        write_parquet(crawl / f"night{night}.parquet", [text_of(1000 + night)], first=2000)
        output = tmp_path / str(night)
        quick = run(crawl, output, checkpoint, previous=tmp_path / str(night - 1))
        assert redone(quick.costs) == {"text_new": 1}
        expected = files_of(output)
        shutil.rmtree(output)
        run(crawl, output, checkpoint)
        assert files_of(output) == expected


def test_an_incremental_run_that_was_interrupted_goes_on(yesterday, checkpoint, tmp_path):
    crawl, previous = yesterday
    run(crawl, tmp_path / "out", checkpoint, "routing.threshold=0.4", previous=previous)
    expected = files_of(tmp_path / "out")
    for part in sorted((tmp_path / "out" / "entities").iterdir())[::2]:
        part.unlink()
    for mark in ("_SUCCESS", "_manifest.json"):
        (tmp_path / "out" / mark).unlink()
    again = run(crawl, tmp_path / "out", checkpoint, "routing.threshold=0.4", previous=previous)
    assert 0 < again.costs["documents_reused"] < rows_of(again.totals)
    assert files_of(tmp_path / "out") == expected


def test_in_batches_of_a_whole_unit_rows_are_the_same_but_for_the_last_digits(checkpoint, tmp_path):
    crawl = write_crawl(tmp_path / "crawl")
    unit = ["recognize.batch_scope=unit"]
    run(crawl, tmp_path / "before", checkpoint, *unit)
    mutate(crawl)
    run(crawl, tmp_path / "quick", checkpoint, *unit, previous=tmp_path / "before")
    run(crawl, tmp_path / "full", checkpoint, *unit)
    quick, full = (
        ds.dataset(tmp_path / name / "entities").to_table().sort_by("doc_id").to_pylist()
        for name in ("quick", "full")
    )
    assert [row["doc_id"] for row in quick] == [row["doc_id"] for row in full]
    for one, other in zip(quick, full, strict=True):
        assert len(one["entities"]) == len(other["entities"])
        for found, expected in zip(one["entities"], other["entities"], strict=True):
            scores = {
                name: pytest.approx(expected[name], abs=1e-5) for name in ("score", "uncertainty")
            }
            assert found == {**expected, **scores}


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda run: (run / "_SUCCESS").unlink(), "not finished"),
        (lambda run: shutil.rmtree(run), "not the output of a run"),
        (lambda run: _set(run, ("config", "output", "keep_candidates"), False), "keep_candidates"),
        (lambda run: _set(run, ("plan", "schema_version"), 1), "version 1 of the tables"),
    ],
)
def test_what_cannot_be_built_on_is_refused_before_anything_starts(
    yesterday, checkpoint, tmp_path, break_it, message
):
    crawl, previous = yesterday
    shutil.copytree(previous, tmp_path / "before")
    break_it(tmp_path / "before")
    with pytest.raises(ConfigError, match=message):
        run(crawl, tmp_path / "out", checkpoint, previous=tmp_path / "before")
    assert not (tmp_path / "out").exists()


def _set(run, path, value):
    tree = json.loads((run / "_run.json").read_text())
    inner = tree
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    (run / "_run.json").write_text(json.dumps(tree))


def test_a_run_is_no_previous_run_of_itself(yesterday, checkpoint):
    crawl, previous = yesterday
    for name in (previous, f"{previous}/../{previous.name}/", f"file://{previous}"):
        with pytest.raises(ConfigError, match=r"output.path itself"):
            run(crawl, previous, checkpoint, previous=name)


def command(capsys, *arguments):
    """Exit code, standard output and standard error of `linkner extract ...`."""
    return main(["extract", *map(str, arguments)]), *capsys.readouterr()


def test_the_command_explains_each_shard(yesterday, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("linkner_ray.extract.ray_start.start_ray", lambda: None)
    _, previous = yesterday
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    write_parquet(crawl / "a.parquet", [text_of(number) for number in range(3)])
    write_parquet(crawl / "b.parquet", [text_of(1), text_of(99)], first=50)
    settings = overrides(crawl, tmp_path / "out", checkpoint, EXACT, "routing.threshold=0.2")
    on_top = ["--incremental", previous, "--explain", *settings]
    code, said, _ = command(capsys, "--dry-run", *on_top)
    assert code == 0
    assert "routing.threshold was 0.1, is 0.2" in said
    assert "encoder      as before" in said
    assert not (tmp_path / "out").exists()
    code, said, _ = command(capsys, *on_top)
    assert code == 0
    assert "a.parquet: 3 documents: 3 reused" in said
    assert "b.parquet: 2 documents: 1 reused, 1 redone (new or edited text)" in said
    assert "reused             4 documents" in said
    assert "Reused from a previous run: 4 documents" in (tmp_path / "out" / "report.md").read_text()
    code, tree, said = command(capsys, *on_top, "--json", "-")
    assert "a.parquet: 1 unit found done" in said
    numbers = json.loads(tree)
    assert (numbers["format"], numbers["units_written"]) == ("linkner-run", 0)
    assert numbers["totals"]["documents_read"] == 5


@pytest.mark.parametrize("option", ["--explain", "--trust-code"])
def test_an_option_about_nothing_is_refused(option, capsys):
    code, _, said = command(capsys, option)
    assert code == 2
    assert option in said
    assert "--incremental" in said


def test_what_other_code_found_is_redone_unless_it_is_trusted(checkpoint, tmp_path):
    crawl = write_crawl(tmp_path / "crawl")
    run(crawl, tmp_path / "before", checkpoint)
    path = tmp_path / "before" / "_run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "code": {**record["code"], "pyarrow": "0.1"}}))
    plan = plan_extraction(config_of(*overrides(crawl, tmp_path / "out", checkpoint, EXACT)))
    wary, trusting = (
        open_previous(
            str(tmp_path / "before"),
            plan.fingerprint,
            output=str(tmp_path / "out"),
            trust_code=trusted,
        )
        for trusted in (False, True)
    )
    assert wary.obstacle == "code"
    assert "pyarrow" in str(wary.changed)
    assert trusting.obstacle is None
    done = extract(plan, previous=wary)
    assert done.costs["redone_code"] == rows_of(done.totals)
    assert "documents_reused" not in done.costs or done.costs["documents_reused"] == 0
