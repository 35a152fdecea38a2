"""Means and ranges of evaluations that a real checkpoint gave, and what is refused."""

import copy
import json

import pytest

from benchmarks import seeds
from linkner_ray.config import EvaluateConfig
from linkner_ray.errors import ConfigError
from linkner_ray.evaluation.job import evaluate
from linkner_ray.evaluation.plan import plan_evaluation
from tests.spanner import tiny

CORPUS = "Peter B-PER\nmet O\nMicrosoft B-ORG\n\nParis B-LOC\nand O\nNew B-LOC\nYork I-LOC\n"
RECORDED = [
    {"index": 0, "tokens": ["Peter", "met", "Microsoft"], "entities": [[0, 1, "PER"]]},
    {"index": 1, "tokens": ["Paris", "and", "New", "York"], "entities": None},
]


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("two_cpus")
def test_means_and_ranges(tmp_path, capsys):
    tiny.model().save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "set.conll").write_text(CORPUS)
    (tmp_path / "replay.jsonl").write_text("\n".join(map(json.dumps, RECORDED)))
    config = EvaluateConfig.model_validate(
        {
            "sets": [f"{name}={tmp_path}/set.conll" for name in ("test", "again")],
            "recognize": {"checkpoint": str(tmp_path / "checkpoint")},
            "llm": {
                "backend": "replay",
                "model": "x",
                "replay_path": str(tmp_path / "replay.jsonl"),
            },
            "study": {"shares": [0, 0.5, 1], "resamples": 100, "estimates": ["entropy"]},
            "output": {"path": str(tmp_path / "one")},
        }
    )
    evaluate(plan_evaluation(config))
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text())
    other = copy.deepcopy(metrics)
    other["config"]["recognize"]["checkpoint"] = "elsewhere"
    other["sets"][0]["local"]["strict"]["all"]["f1"] += 0.5
    folders = [str(tmp_path / "one"), _write(tmp_path / "two", other)]
    numbers = seeds.main([*folders, "--json", str(tmp_path / "numbers.json")])
    f1 = metrics["sets"][0]["local"]["strict"]["all"]["f1"]
    assert numbers["sets: test: local"] == [f1, f1 + 0.5]
    assert numbers["sets: again: local"] == [f1, f1]
    assert json.loads((tmp_path / "numbers.json").read_text()) == numbers
    printed = capsys.readouterr().out
    assert f"| test | {f1 + 0.25:.4f} ({f1:.4f} to {f1 + 0.5:.4f}) |" in printed
    assert f"| again | {f1:.4f} |" in printed
    study = metrics["sets"][0]["study"]
    [oracle] = [
        s for s in study["systems"] if (s["answers"], s["estimate"]) == ("oracle", "entropy")
    ]
    at_half = oracle["points"]["0.5"]["f1"]
    assert numbers["test: F1 by share asked: oracle, entropy: 50 %"] == [at_half] * 2
    extracted = study["llm_extraction_f1"]
    assert extracted > 0
    assert numbers["test: F1 by share asked: LLM extracts: 100 %"] == [extracted] * 2
    auroc = metrics["ood"]["again"]["entropy"]["auroc"]
    assert numbers["OOD, by set and estimate: again, entropy: auroc"] == [auroc] * 2


def test_other_recipes_are_refused(tmp_path):
    one = _write(tmp_path / "one", _metrics())
    assert seeds.main([one, _write(tmp_path / "seed", _metrics(checkpoint="of another seed"))])
    sure = _write(tmp_path / "sure", _metrics(uncertainty="entropy"))
    with pytest.raises(ConfigError, match=r"1 and 2 differ in \['recognize'\]"):
        seeds.main([one, sure])
    with pytest.raises(ConfigError, match=r"nowhere: there is no metrics\.json"):
        seeds.main([one, str(tmp_path / "nowhere")])


def test_a_threshold_may_differ_where_dev_chose_it(tmp_path):
    named = [
        _write(tmp_path / f"named-{value}", _metrics(threshold=value, threshold_for="asked=10%"))
        for value in (0.2, 0.3)
    ]
    assert seeds.main(named) == {"evaluations": 2}
    given = _write(tmp_path / "given", _metrics(threshold=0.2))
    other = _write(tmp_path / "other", _metrics(threshold=0.3))
    for second in (other, named[0]):
        with pytest.raises(ConfigError, match=r"differ in \['routing'\]"):
            seeds.main([given, second])


def _metrics(checkpoint="one", uncertainty="confidence", threshold=0.5, threshold_for=None):
    """Of an evaluation without sets."""
    config = {
        "recognize": {"checkpoint": checkpoint, "uncertainty": uncertainty},
        "output": {"path": checkpoint},
        "routing": {"threshold": threshold},
    }
    return {"config": config, "threshold_for": threshold_for, "sets": [], "ood": {}}


def _write(folder, metrics):
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return str(folder)
