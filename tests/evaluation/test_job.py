"""The offline benchmark with a random local model and a judge that knows nothing.

One evaluation runs on Ray; the others do the same steps in this process.
"""

import json

import pyarrow.parquet as pq
import pytest
import yaml

from linkner_ray.cli import main
from linkner_ray.config import EvaluateConfig
from linkner_ray.config.loading import load_config
from linkner_ray.errors import ConfigError, DataError
from linkner_ray.evaluation import job, staged
from linkner_ray.evaluation.flips import Flips
from linkner_ray.evaluation.plan import plan_evaluation
from linkner_ray.evaluation.report import summary_table
from linkner_ray.extract import ray_start
from linkner_ray.storage import Folder
from tests.crawl import write_checkpoint, write_thresholds
from tests.endpoint_server import GOOD, Server, completion
from tests.linking.made import write_link
from tests.local_pipeline import documents_here
from tests.pages import Page, text_of_card
from tests.spanner.tiny import LABELS

pytestmark = pytest.mark.filterwarnings("default")

SENTENCES = (
    "Peter B-PER\nBlackburn I-PER\nmet O\nMicrosoft B-ORG\n. O\n\n"
    "Paris B-LOC\n, O\nLondon B-LOC\nand O\nNew B-LOC\nYork I-LOC\n. O\n\n"
)

EVERY_SPAN = [
    "recognize.near_miss_floor=0",
    "recognize.max_near_misses=100",
    "recognize.certain_confidence=1",
]
"""Each span up to the maximum width is a candidate, whatever the random model thinks of it."""


@pytest.fixture(autouse=True)
def without_ray(request, monkeypatch):
    if request.node.get_closest_marker("ray") is None:
        monkeypatch.setattr(staged, "run_documents", documents_here)


def is_at_start(body):
    """Whether a question is one of those that are asked to see that the LLM answers."""
    text = body["messages"][1]["content"].replace("[[", "").replace("]]", "")
    return "Ada Lovelace worked for Siemens" in text


@pytest.fixture
def refuser():
    """Says "non-entity" (the last of four options) to everything."""
    server = Server()
    server.reply = lambda *_: (200, completion("D", {"D": 0.9, "A": 0.1}))
    yield server
    server.close()


def evaluate(config):
    return job.evaluate(plan_evaluation(config))


def config_of(tmp_path, corpus, *more):
    (tmp_path / "set.conll").write_text(corpus)
    return load_config(
        EvaluateConfig,
        None,
        [
            f"sets=[{{name: mine, path: {tmp_path / 'set.conll'}}}]",
            f"output.path={tmp_path / 'out'}",
            f"recognize.checkpoint={write_checkpoint(tmp_path / 'checkpoint')}",
            "unit_sentences=1",
            *more,
        ],
    )


@pytest.mark.ray
@pytest.mark.usefixtures("two_cpus")
def test_local_and_linked_are_scored_on_the_same_candidates(tmp_path, refuser):
    llm = ["llm.backend=openai", f"llm.base_url={refuser.url}", "llm.model=judge"]
    [result] = evaluate(config_of(tmp_path, SENTENCES, *llm, "routing.threshold=0")).results
    assert (result.num_sentences, result.num_gold, result.num_unreachable) == (2, 5, 0)
    assert result.num_routed == result.num_candidates > 0
    # All candidates are asked about and all are refused, so nothing is left of the local model's.
    assert result.local.micro.num_predicted > 0
    assert result.linked.micro.num_predicted == 0
    assert result.linked.micro.support == result.local.micro.support == 5
    assert result.gain.difference == pytest.approx(-result.local.micro.f1)
    assert result.gain.low <= result.gain.difference <= result.gain.high <= 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["sets"][0]["num_gold"] == 5
    predictions = pq.read_table(tmp_path / "out" / "predictions" / "mine.parquet")
    assert predictions["text"].to_pylist()[0] == "Peter Blackburn met Microsoft ."
    assert summary_table([result]) in (tmp_path / "out" / "report.md").read_text()


def test_a_link_decides_who_is_asked_and_is_named(tmp_path, refuser):
    llm = ["llm.backend=openai", f"llm.base_url={refuser.url}", "llm.model=judge"]
    plan = plan_evaluation(config_of(tmp_path, SENTENCES, *llm))
    linked = write_link(tmp_path / "link.json", plan.config, plan.checkpoint.label_set)
    study = [*EVERY_SPAN, "routing.min_gain=0.1", "study.ask_all=true"]
    [result] = evaluate(config_of(tmp_path, SENTENCES, *llm, linked, *study)).results
    assert 0 < result.num_routed < result.num_candidates
    everyone = [one.points[1.0].num_asked for one in result.study.systems]
    assert everyone == [result.num_candidates] * len(everyone)
    by_link = result.study.systems[-1]
    assert by_link.points[0.0].f1 == result.local.micro.f1
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| link |" in page
    assert f"The link {tmp_path / 'link.json'} says who is asked" in page
    assert f"min_gain = 0.1: {result.routed_share:.1%} of mine." in page


def test_a_link_of_another_llm_is_refused_before_the_work(tmp_path, refuser):
    llm = ["llm.backend=openai", f"llm.base_url={refuser.url}", "llm.model=judge"]
    plan = plan_evaluation(config_of(tmp_path, SENTENCES, *llm))
    linked = write_link(tmp_path / "link.json", plan.config, plan.checkpoint.label_set)
    config = config_of(tmp_path, SENTENCES, *llm[:2], "llm.model=other", linked)
    with pytest.raises(ConfigError, match=r"llm\.model was judge, is other"):
        plan_evaluation(config)


def test_flips_and_audits_are_reported(tmp_path, refuser):
    llm = ["llm.backend=openai", f"llm.base_url={refuser.url}", "llm.model=judge"]
    llm += ["recognize.max_near_misses=0"]
    [uncertain] = evaluate(config_of(tmp_path, SENTENCES, *llm, "routing.threshold=0")).results
    flips = sum(uncertain.routed.values(), Flips())
    assert flips.asked == uncertain.num_routed
    # Everything is refused: what was right is lost, an invention put right, and an entity under
    # another label stays wrong.
    assert flips.right_to_wrong == uncertain.local.micro.true_positives
    assert flips.wrong_to_right + flips.stayed_wrong == uncertain.local.micro.false_positives
    assert flips.wrong_to_right > 0
    assert sum(uncertain.verdicts.values()) == uncertain.num_routed
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"][0]
    assert metrics["routed"]["all"]["asked"] == uncertain.num_routed
    audit = ["routing.threshold=1", "routing.audit_share=1"]
    [certain] = evaluate(config_of(tmp_path, SENTENCES, *llm, *audit)).results
    assert (certain.num_routed, certain.routed) == (0, {})
    assert sum(certain.verdicts.values()) == 0  # audits are not routed
    assert certain.linked == certain.local == uncertain.local
    assert certain.cost.num_questions > 0  # audits are paid for, too
    asked = sum(certain.audited.values(), Flips())
    assert asked.asked == certain.local.micro.num_predicted > 0
    assert asked == flips


def test_each_further_set_is_held_against_the_first(tmp_path):
    (tmp_path / "other.conll").write_text("Globex B-ORG\nsued O\nOslo B-LOC\n. O\n\n")
    config = config_of(tmp_path, SENTENCES, "llm.backend=none")
    other = config.sets[0].model_copy(
        update={"name": "other", "path": str(tmp_path / "other.conll")}
    )
    results = evaluate(config.model_copy(update={"sets": (*config.sets, other)})).results
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["ood"]["other"]
    assert list(found) == ["confidence"]
    assert (found["confidence"]["num_in"], found["confidence"]["num_out"]) == tuple(
        result.candidates.num_predicted for result in results
    )
    page = (tmp_path / "out" / "report.md").read_text()
    assert "## Text unlike mine" in page
    assert f"| other | confidence | {found['confidence']['num_out']:,} |" in page


def test_all_candidates_can_be_asked_and_the_run_stays_as_configured(tmp_path, refuser):
    llm = ["llm.backend=openai", f"llm.base_url={refuser.url}", "llm.model=judge"]
    llm += ["routing.threshold=0.3", "routing.budget=4 calls", "routing.audit_share=0.3"]
    estimates = ["study.estimates=[entropy, evidential]", "study.shares=[0, 0.5, 1]"]
    plain = evaluate(config_of(tmp_path, SENTENCES, *llm))
    rows = pq.read_table(tmp_path / "out" / "predictions" / "mine.parquet").to_pylist()
    full = evaluate(config_of(tmp_path, SENTENCES, *llm, *estimates, "study.ask_all=true"))
    again = pq.read_table(tmp_path / "out" / "predictions" / "mine.parquet").to_pylist()
    assert rows == again
    [before], [after] = plain.results, full.results
    assert (before.linked, before.num_routed) == (after.linked, after.num_routed)
    assert before.cost.num_questions == after.cost.num_questions
    # Without all answers only the oracle reaches every share.
    assert [list(one.points) for one in before.study.systems if one.answers == "llm"] != []
    assert all(1.0 not in one.points for one in before.study.systems if one.answers == "llm")
    systems = {(one.answers, one.estimate): one for one in after.study.systems}
    assert {estimate for _, estimate in systems} == {"confidence", "entropy"}
    for one in systems.values():
        assert list(one.points) == [0.0, 0.5, 1.0]
        assert one.points[0.0].f1 == after.local.micro.f1
    assert after.study.llm_alone_f1 == systems["llm", "entropy"].points[1.0].f1 == 0
    assert systems["oracle", "confidence"].points[1.0].precision == 1
    assert list(after.detections) == ["confidence", "entropy"]
    assert "evidential is left out" in (tmp_path / "out" / "report.md").read_text()
    for name in ("f1", "reliability-mine", "risk-coverage-mine", "asking-mine", "estimates-mine"):
        assert (tmp_path / "out" / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"</svg>" in (tmp_path / "out" / "plots" / f"{name}.svg").read_bytes()
    errors = Page((tmp_path / "out" / "errors.html").read_text())
    assert "Confusion on equal boundaries" in errors.text
    assert any("Blackburn" in text_of_card(card) for card in errors.cards)
    assert (tmp_path / "out" / "report.html").read_text().count("<svg") == 5


def test_a_threshold_by_name_is_that_of_the_checkpoint(tmp_path, refuser):
    llm = ["llm.backend=openai", f"llm.base_url={refuser.url}", "llm.model=judge"]
    config = config_of(tmp_path, SENTENCES, *llm, "routing.threshold_for=asked=5%")
    with pytest.raises(ConfigError, match="linkner calibrate"):
        evaluate(config)
    write_thresholds(tmp_path / "checkpoint", {5: 0.0, 10: 0.3})
    [result] = evaluate(config).results
    assert result.num_routed == result.num_candidates > 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["config"]["routing"]["threshold"] == 0.0
    assert metrics["threshold_for"] == "asked=5%"


def test_a_set_in_other_labels_is_scored_under_its_map(tmp_path):
    corpus = "Ada B-person\nmet O\nAcme B-corporation\nin O\nOslo B-location\n. O\n\n"
    config = config_of(tmp_path, corpus, "llm.backend=none")
    [entry] = config.sets
    with pytest.raises(DataError, match="person"):
        evaluate(config)
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(LABELS.model_dump(mode="json")))
    (tmp_path / "map.yaml").write_text(
        f"name: mine\nfrom: wnut17\nto: {tmp_path / 'labels.yaml'}\nmap: {{person: PER, "
        "corporation: ORG, group: ORG, location: LOC, product: null, creative-work: null}\n"
    )
    named = entry.model_copy(update={"label_map": str(tmp_path / "map.yaml")})
    [result] = evaluate(config.model_copy(update={"sets": (named,)})).results
    assert result.num_gold == 3
    assert result.renamed == {"person -> PER": 1, "corporation -> ORG": 1, "location -> LOC": 1}
    page = (tmp_path / "out" / "report.md").read_text()
    # A row of each kind of match names the label it is of.
    assert "| local | LOC | " in page.split("how nearly right")[1]
    assert "person -> PER 1" in (tmp_path / "out" / "report.md").read_text()


def test_a_map_that_leads_elsewhere_is_refused(tmp_path):
    (tmp_path / "map.yaml").write_text(
        "name: mine\nfrom: conll03\nto: wnut17\n"
        "map: {PER: person, ORG: corporation, LOC: location, MISC: product}\n"
    )
    config = config_of(tmp_path, SENTENCES, "llm.backend=none")
    named = config.sets[0].model_copy(update={"label_map": str(tmp_path / "map.yaml")})
    with pytest.raises(ConfigError, match="corporation"):
        evaluate(config.model_copy(update={"sets": (named,)}))


def test_a_label_that_is_never_asked_about_has_to_exist(tmp_path):
    config = config_of(tmp_path, SENTENCES, "llm.backend=none", "routing.never_ask=[GPE]")
    with pytest.raises(ConfigError, match="GPE"):
        evaluate(config)


def test_gold_changes_no_prediction(tmp_path):
    texts = []
    for name, corpus in (("one", SENTENCES), ("other", SENTENCES.replace("B-LOC", "B-ORG"))):
        folder = tmp_path / name
        folder.mkdir()
        evaluate(config_of(folder, corpus.replace("I-LOC", "I-ORG"), "llm.backend=none"))
        texts.append(pq.read_table(folder / "out" / "predictions" / "mine.parquet"))
    assert not texts[0]["gold"].equals(texts[1]["gold"])
    assert texts[0].drop_columns(["gold"]).equals(texts[1].drop_columns(["gold"]))


def test_a_recorded_llm_needs_no_engine_and_what_it_lacks_is_counted(tmp_path):
    recorded = [
        {"index": 0, "tokens": ["Peter", "Blackburn", "met", "Microsoft", "."],
         "entities": [[0, 2, "PER"], [3, 4, "ORG"]]},
    ]  # fmt: skip
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in recorded))
    replay = ["llm.backend=replay", f"llm.replay_path={tmp_path / 'r.jsonl'}"]
    settings = [*replay, "routing.threshold=0", "resources.llm_gpus=1", *EVERY_SPAN]
    evaluation = evaluate(config_of(tmp_path, SENTENCES, *settings))
    [result] = evaluation.results
    first, second = pq.read_table(tmp_path / "out" / "predictions" / "mine.parquet").to_pylist()
    assert result.verdicts["failed"] == second["routes"].count("llm") > 0
    assert sum(result.verdicts.values()) == result.num_routed
    linked = [(entity["text"], entity["label"], entity["source"]) for entity in first["entities"]]
    # Nothing was asked in this run: the words are the recorded LLM's.
    assert linked == [("Peter Blackburn", "PER", "cache"), ("Microsoft", "ORG", "cache")]
    page = (tmp_path / "out" / "report.md").read_text()
    assert f"{result.verdicts['failed']} failed" in page
    [problem] = evaluation.problems
    assert problem.startswith(f"{result.verdicts['failed']} of {result.num_routed} spans")
    assert problem in page
    allowed = evaluate(
        config_of(tmp_path, SENTENCES, *settings, "errors.max_failed_answers_share=1")
    )
    assert allowed.problems == ()


def test_unreadable_answers_count_against_the_limit_and_the_command_exits_3(
    tmp_path, refuser, monkeypatch, capsys
):
    # The words of a model that thinks aloud are none of the options.
    thinks = (200, completion("<think>", {"<think>": 1.0}))
    refuser.reply = lambda _, body: GOOD if is_at_start(body) else thinks
    monkeypatch.setattr(ray_start, "start_ray", lambda: None)
    config = config_of(
        tmp_path, SENTENCES, "llm.backend=openai", f"llm.base_url={refuser.url}", "llm.model=judge",
        "routing.threshold=0",
    )  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert main(["evaluate", "--config", str(tmp_path / "config.yaml"), "--json", "-"]) == 3
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads((tmp_path / "out" / "metrics.json").read_text())
    [result] = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]
    unreadable, asked = result["verdicts"]["unreadable"], result["num_routed"]
    assert unreadable == asked > 0
    assert f"0 of {asked} spans that were asked about got no answer and {asked} an" in said.err
    assert "| mine |" in said.err


@pytest.mark.parametrize("content", [{"report.md": b"mine"}, {"metrics.json": b"{}"}])
def test_a_folder_of_others_is_refused_and_stays(tmp_path, content):
    folder = Folder.at(str(tmp_path / "out"))
    for name, mine in content.items():
        folder.write_whole(name, mine)
    with pytest.raises(ConfigError, match=r"holds .*, and no metrics\.json says that an evalu"):
        evaluate(config_of(tmp_path, SENTENCES, "llm.backend=none"))
    assert {name: folder.read_bytes(name) for name in folder.entries()} == content
