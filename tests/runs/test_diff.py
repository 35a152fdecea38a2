"""What differs between two runs, and whether each difference is put down to what made it."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from linkner_ray.cli import main
from linkner_ray.errors import ConfigError
from linkner_ray.evaluation.diff_page import describe_diff, render_diff
from linkner_ray.extraction import extract
from linkner_ray.extraction_plan import plan_extraction
from linkner_ray.runs.attribution import CAUSES
from linkner_ray.runs.diff import NUM_EXAMPLES, Diff, compare_runs
from linkner_ray.spanner.calibration import Calibration
from tests.crawl import config_of, overrides, text_of, write_parquet
from tests.endpoint_server import Server, completion
from tests.local_pipeline import run_here
from tests.spanner.tiny import model

NUM_DOCUMENTS = 30
SALTS = {"judge": 0, "other": 1}


@pytest.fixture(scope="module", autouse=True)
def without_ray():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("linkner_ray.extraction.run_extraction", run_here)
        yield


@pytest.fixture(scope="module")
def judge():
    """Two LLMs: each answers by its name and the words of the question, always the same."""
    server = Server()
    server.reply = lambda _, body: (200, completion(symbol(body, SALTS[body["model"]])))
    yield server
    server.close()


def symbol(body, salt):
    span = body["messages"][-1]["content"].rpartition("[[")[2].partition("]]")[0]
    return "ABCD"[(sum(span.encode()) * (1 + salt) + salt) % 4]


@pytest.fixture(scope="module")
def world(tmp_path_factory, judge):
    """Makes runs of any set of changes, each once."""
    folder = tmp_path_factory.mktemp("world")
    checkpoints, crawls = checkpoints_of(folder), crawls_of(folder)

    def run(*changes, keep=True):
        name = "+".join(sorted(changes)) or "before"
        output = folder / "runs" / (name if keep else f"{name}-bare")
        if output.exists():
            return str(output)
        checkpoint = checkpoints.get(next((c for c in changes if c in checkpoints), "before"))
        settings = [
            "llm.backend=openai",
            f"llm.base_url={judge.url}",
            f"llm.model={'other' if 'llm' in changes else 'judge'}",
            f"routing.threshold={0.35 if 'threshold' in changes else 0.24}",
            f"fusion.strategy={'product' if 'fusion' in changes else 'override'}",
            f"output.keep_candidates={keep}",
            f"output.keep_text={keep}",
        ]
        crawl = crawls["text" if "text" in changes else "before"]
        extract(plan_extraction(config_of(*overrides(crawl, output, checkpoint, *settings))))
        return str(output)

    return run


def checkpoints_of(folder):
    """A model, the same one calibrated otherwise, and one of slightly other weights."""
    before, encoder = model(max_width=3), model(max_width=3)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in encoder.head.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    variants = {"before": (before, 3.0), "calibration": (before, 4.0), "encoder": (encoder, 3.0)}
    for name, (variant, temperature) in variants.items():
        variant.calibration = Calibration(temperature=temperature)
        variant.save_pretrained(folder / name)
    return {name: str(folder / name) for name in ("before", "calibration", "encoder")}


def crawls_of(folder):
    """The same documents in two shards, and with every fifth one edited, one new and one gone."""
    for name in ("before", "text"):
        texts = [text_of(number) for number in range(NUM_DOCUMENTS)]
        crawl = folder / f"crawl-{name}"
        crawl.mkdir()
        if name == "text":
            texts[::5] = ["Rome and Oslo . " + text.replace("Paris", "Bonn") for text in texts[::5]]
            texts[-1] = text_of(77)
            write_parquet(crawl / "c.parquet", [text_of(78)], first=900)
            texts.pop(11)
        write_parquet(crawl / "a.parquet", texts[:17])
        write_parquet(crawl / "b.parquet", texts[17:], first=17 if name == "before" else 18)
        if name == "text":  # ids stay with their documents
            table = pq.read_table(crawl / "a.parquet")
            ids = [f"p{n}" for n in range(18) if n != 11]
            pq.write_table(table.set_column(0, "doc_id", [ids]), crawl / "a.parquet")
    return {name: folder / f"crawl-{name}" for name in ("before", "text")}


@pytest.fixture
def changes_between(monkeypatch):
    """All changes of a comparison, and not the drawn ones only."""

    def changes(before, after):
        found = []
        with monkeypatch.context() as patch:
            add = Diff.add
            patch.setattr(
                Diff, "add", lambda diff, change: (found.append(change), add(diff, change))
            )
            compare_runs(before, after)
        return found

    return changes


CAUSE_OF = {
    "text": "text",
    "encoder": "encoder",
    "calibration": "calibration",
    "llm": "llm",
    "threshold": "config",
    "fusion": "config",
}


def place(change):
    return change.doc_id, change.entity["start"], change.entity["end"], change.entity["text"]


@pytest.mark.parametrize(
    ("seeded", "keep"),
    [*((seeded, True) for seeded in CAUSE_OF), ("encoder", False), ("llm", False)],
)
def test_a_change_of_one_cause_is_put_down_to_it(world, changes_between, seeded, keep):
    changes = changes_between(world(keep=keep), world(seeded, keep=keep))
    right = [change.cause == CAUSE_OF[seeded] for change in changes]
    assert len(changes) >= 20
    assert sum(right) >= 0.95 * len(right)


@pytest.mark.parametrize(
    "pair",
    [("threshold", "llm"), ("encoder", "llm"), ("calibration", "llm"), ("text", "encoder")],
    ids="+".join,
)
def test_of_two_changes_at_once_each_is_put_down_to_its_own(world, changes_between, pair):
    """Judged where the truth is known: spans that change under just one of the two alone."""
    alone = [{place(change) for change in changes_between(world(), world(one))} for one in pair]
    truth = {
        **dict.fromkeys(alone[0] - alone[1], CAUSE_OF[pair[0]]),
        **dict.fromkeys(alone[1] - alone[0], CAUSE_OF[pair[1]]),
    }
    both = changes_between(world(), world(*pair))
    judged = [(truth[place(c)], c.cause) for c in both if place(c) in truth]
    assert {cause for cause, _ in judged} == {CAUSE_OF[one] for one in pair}
    assert sum(cause == found for cause, found in judged) >= 0.8 * len(judged)


def test_an_llm_that_answers_otherwise_behind_the_same_name_is_found_out(world, tmp_path):
    shutil.copytree(world("llm"), tmp_path / "after")
    facts = json.loads((tmp_path / "after" / "_run.json").read_text())
    before = json.loads(Path(world(), "_run.json").read_text())
    (tmp_path / "after" / "_run.json").write_text(json.dumps({**facts, "plan": before["plan"]}))
    diff = compare_runs(world(), str(tmp_path / "after"))
    assert not diff.changed
    found = {cause for cause, _ in diff.causes}
    assert "llm" in found
    assert sum(c for (cause, _), c in diff.causes.items() if cause == "llm") >= 0.95 * sum(
        diff.causes.values()
    )


def test_a_run_and_itself_are_all_the_same(world):
    diff = compare_runs(world(), world())
    assert diff.documents == {"repeated_id": 0, "same_text": NUM_DOCUMENTS}
    assert {kind for _, _, kind in diff.entities} == {"same"}
    assert not diff.examples
    assert "the plans agree" in describe_diff(diff)


def test_documents_are_counted_by_what_became_of_them(world):
    documents = compare_runs(world(), world("text")).documents
    assert documents["only_before"] == 1
    assert documents["only_after"] == 1
    assert documents["other_text"] == 7  # 0, 5, ... 25 and 29
    assert documents["same_text"] == NUM_DOCUMENTS - 1 - 7


def entities_of(folder):
    """Entities of a run by document and place, read without the code under test."""
    import pyarrow.dataset as ds

    return {
        (row["doc_id"], entity["start"], entity["end"]): entity["label"]
        for row in ds.dataset(f"{folder}/entities").to_table().to_pylist()
        for entity in row["entities"]
    }


def test_the_counts_are_those_of_two_dictionaries(world):
    before, after = entities_of(world()), entities_of(world("encoder"))
    diff = compare_runs(world(), world("encoder"))
    counts = dict.fromkeys(("added", "removed", "relabelled", "same"), 0)
    for (_, _, kind), count in diff.entities.items():
        counts[kind] += count
    shared = before.keys() & after.keys()
    assert counts == {
        "added": len(after.keys() - before.keys()),
        "removed": len(before.keys() - after.keys()),
        "relabelled": sum(before[key] != after[key] for key in shared),
        "same": sum(before[key] == after[key] for key in shared),
    }
    assert sum(diff.relabelled.values()) == counts["relabelled"] > 0
    assert min(counts.values()) > 0


def test_an_entity_that_an_edit_only_moved_is_the_same(world):
    edited = compare_runs(world(), world("text"))
    same = sum(c for (_, _, kind), c in edited.entities.items() if kind == "same")
    changed = sum(edited.causes.values())
    assert same > 5 * changed / 7  # most of the 30 documents, and much of the edited ones


def test_of_two_documents_with_one_id_the_first_is_matched_with_the_first(world, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(world(), tmp_path / name)
        for part in (tmp_path / name / "entities").iterdir():
            table = pq.read_table(part)
            same = table.set_column(0, table.schema.field("doc_id"), [["x"] * table.num_rows])
            pq.write_table(same, part)
    documents = compare_runs(str(tmp_path / "one"), str(tmp_path / "two")).documents
    assert documents["same_text"] == NUM_DOCUMENTS
    assert documents["repeated_id"] == NUM_DOCUMENTS - 1


def test_examples_are_spread_over_the_causes_and_drawn_the_same_each_time(world):
    diff = compare_runs(world(), world("text", "encoder"))
    examples = diff.examples
    assert len(examples) == NUM_EXAMPLES
    by_cause = {cause: [e for e in examples if e.cause == cause] for cause in CAUSES}
    totals = {cause: sum(c for (n, _), c in diff.causes.items() if n == cause) for cause in CAUSES}
    assert len(by_cause["text"]) >= min(20, totals["text"])
    assert len(by_cause["encoder"]) >= min(20, totals["encoder"])
    assert examples == compare_runs(world(), world("text", "encoder")).examples


def test_hostile_text_stays_text_on_the_page(world, tmp_path):
    hostile = "<script>alert(1)</script>\u202e\x00"
    shutil.copytree(world("encoder"), tmp_path / "after")
    for part in (tmp_path / "after" / "entities").iterdir():
        table = pq.read_table(part)
        rows = [{**row, "text": None} for row in table.to_pylist()]
        texts = [(text or "") + hostile for text in table["text"].to_pylist()]
        texts = [hostile + text[len(hostile) :] for text in texts]
        place = table.schema.get_field_index("text")
        pq.write_table(table.set_column(place, table.schema.field("text"), [texts]), part)
        assert len(rows) == len(texts)
    page = render_diff(compare_runs(world(), str(tmp_path / "after")))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    assert "\x00" not in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def test_the_command_writes_page_and_numbers(world, tmp_path, capsys):
    page, numbers = tmp_path / "diff.html", tmp_path / "diff.json"
    code = main(["diff", world(), world("threshold"), "--html", str(page), "--json", str(numbers)])
    said = capsys.readouterr().out
    assert code == 0
    assert "routing.threshold was 0.24, is 0.35" in said
    tree = json.loads(numbers.read_text())
    assert set(tree["causes"]) == {"config"}
    assert page.read_text().count("<article>") == min(
        NUM_EXAMPLES, sum(tree["causes"]["config"].values())
    )


def test_a_folder_that_is_no_finished_run_is_refused(world, tmp_path):
    with pytest.raises(ConfigError, match=r"no _run.json"):
        compare_runs(world(), str(tmp_path))


def test_runs_of_two_table_versions_are_not_compared(world, tmp_path):
    shutil.copytree(world(), tmp_path / "old")
    tree = json.loads((tmp_path / "old" / "_run.json").read_text())
    tree["plan"]["schema_version"] = 2
    (tmp_path / "old" / "_run.json").write_text(json.dumps(tree))
    with pytest.raises(ConfigError, match="only runs of one version"):
        compare_runs(str(tmp_path / "old"), world())
