"""What differs between two runs: counted, told apart by text, and shown."""

import json
import re
import shutil
from functools import partial

import pyarrow.parquet as pq
import pytest
import torch

from linkner_ray.cli import main
from linkner_ray.errors import ConfigError
from linkner_ray.extract.job import extract
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.nightly.diff import CAUSES, compare_runs, name_cause
from linkner_ray.nightly.diff_page import describe_diff, render_diff
from linkner_ray.nightly.diff_rows import DOCUMENTS, NUM_EXAMPLES
from linkner_ray.spanner.calibration.temperature import Calibration
from tests.crawl import config_of, overrides, text_of, write_parquet
from tests.fakes import ScriptedBackend
from tests.local_pipeline import run_here
from tests.pages import Page, text_of_card
from tests.spanner.tiny import model

NUM_DOCUMENTS = 30
SALTS = {"judge": 0, "other": 1}


@pytest.fixture(scope="module", autouse=True)
def without_ray():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "linkner_ray.extract.job.run_extraction", partial(run_here, start_llm=start_llm)
        )
        yield


def start_llm(chain):
    """Two LLMs: each answers by its name and the words of the question, always the same."""
    salt = SALTS[chain.llm.model]

    def script(request):
        chosen = (sum(request.question.span.encode()) * (1 + salt) + salt) % 4
        return {
            class_id: 0.7 if index == chosen else 0.1
            for index, (_, class_id) in enumerate(request.options)
        }

    return ScriptedBackend(chain.label_set, script)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
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
            "llm.base_url=http://127.0.0.1:9/v1",
            f"llm.model={'other' if 'llm' in changes else 'judge'}",
            f"routing.threshold={0.35 if 'threshold' in changes else 0.24}",
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


@pytest.mark.parametrize(
    ("change", "step"),
    [("encoder", "encoder"), ("calibration", "calibration"), ("llm", "llm"),
     ("threshold", "routing")],
)  # fmt: skip
@pytest.mark.parametrize("keep", [True, False])
def test_changes_of_the_same_text_name_the_step_that_changed(world, change, step, keep):
    diff = compare_runs(world(keep=keep), world(change, keep=keep))
    # Another checkpoint brings a calibration of its own.
    assert step in diff.changed
    assert set(diff.changed) <= {step, "calibration"}
    assert {cause for cause, _ in diff.causes} == {"steps"}
    assert sum(diff.causes.values()) >= 20


def test_changed_text_is_told_apart_from_changed_steps(world):
    both = compare_runs(world(), world("text", "llm"))
    assert {cause for cause, _ in both.causes} == set(CAUSES)
    text = compare_runs(world(), world("text"))
    assert {cause for cause, _ in text.causes} == {"text"}
    assert not text.changed
    assert name_cause("steps", both.changed) == "llm changed"
    assert name_cause("steps", text.changed) == "nothing known changed"
    said = describe_diff(both)
    assert "text changed" in said
    assert "llm changed" in said


def test_a_run_and_itself_are_all_the_same(world):
    diff = compare_runs(world(), world())
    assert diff.documents == {**dict.fromkeys(DOCUMENTS, 0), "same_text": NUM_DOCUMENTS}
    assert {kind for _, _, kind in diff.entities} == {"same"}
    assert not diff.examples
    assert "the plans agree" in describe_diff(diff)


def test_examples_are_spread_over_the_causes_and_drawn_the_same_each_time(world):
    diff = compare_runs(world(), world("text", "encoder"))
    examples = diff.examples
    assert len(examples) == NUM_EXAMPLES
    by_cause = {cause: [e for e in examples if e.cause == cause] for cause in CAUSES}
    totals = {cause: sum(c for (n, _), c in diff.causes.items() if n == cause) for cause in CAUSES}
    assert len(by_cause["text"]) == min(25, totals["text"])
    assert len(by_cause["steps"]) >= min(20, totals["steps"])
    assert examples == compare_runs(world(), world("text", "encoder")).examples


def test_hostile_text_stays_text_on_the_page(world, tmp_path):
    hostile = "<script>alert(1)</script>\u202e\x00"
    shutil.copytree(world("encoder"), tmp_path / "after")
    for part in (tmp_path / "after" / "entities").iterdir():
        table = pq.read_table(part)
        texts = [(text or "") + hostile for text in table["text"].to_pylist()]
        texts = [hostile + text[len(hostile) :] for text in texts]
        place = table.schema.get_field_index("text")
        pq.write_table(table.set_column(place, table.schema.field("text"), [texts]), part)
    html = render_diff(compare_runs(world(), str(tmp_path / "after")))
    page = Page(html)
    assert page.tags.count("script") == 2  # the cards, and the page's own
    assert any("<script>" in text_of_card(card) for card in page.cards)
    assert not {"\u202e", "\x00"} & set(html)


def test_the_command_writes_page_and_numbers(world, tmp_path, capsys):
    page, numbers = tmp_path / "diff.html", tmp_path / "diff.json"
    code = main(["diff", world(), world("threshold"), "--html", str(page), "--json", str(numbers)])
    said = capsys.readouterr().out
    assert code == 0
    assert "routing.threshold was 0.24, is 0.35" in said
    tree = json.loads(numbers.read_text())
    assert set(tree["causes"]) == {"steps"}
    shown = Page(page.read_text())
    assert len(shown.cards) == min(NUM_EXAMPLES, sum(tree["causes"]["steps"].values()))
    assert "routing.threshold was 0.24, is 0.35" in shown.text
    card = next(card for card in shown.cards if card["group"].startswith("relabelled"))
    assert re.fullmatch(
        r"before: \w+ by \w+, score .*; local label: .*; LLM label: .*", card["foot"][0]
    )
    assert card["foot"][1].startswith("after: ")


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
