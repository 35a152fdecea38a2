"""Which step a fact of a plan decides."""

import pytest

from linkner_ray.runs.fingerprint import changed_steps

FINGERPRINT = {
    "schema_version": 3,
    "encoder": "e",
    "calibration": "c",
    "labels": ["PER"],
    "label_set": "l",
    "prompt": "p",
    "llm": None,
    "demonstrations": None,
    "checkpoint": "k",
    "link": {"digest": "d", "asks": True},
    "config": {
        "input": {"text_column": "text"},
        "sentences": {"segmenter": "blingfire"},
        "recognize": {"uncertainty": "confidence", "near_miss_floor": None, "seed": 0, "gone": 1},
        "routing": {"threshold": 0.1},
        "llm": {"model": "m", "demonstrations": {"kind": "none"}},
        "output": {"keep_text": True},
    },
}


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("config.sentences.segmenter", "sentences"),
        ("encoder", "encoder"),
        ("labels", "encoder"),
        ("config.recognize.seed", "encoder"),
        ("calibration", "calibration"),
        ("config.recognize.uncertainty", "calibration"),
        ("config.recognize.near_miss_floor", "calibration"),
        ("config.routing.threshold", "routing"),
        ("budget_over", "routing"),
        ("link.digest", "routing"),
        ("prompt", "llm"),
        ("label_set", "llm"),
        ("config.llm.model", "llm"),
        ("config.llm.demonstrations.kind", "llm"),
        ("config.recognize.gone", "encoder"),
        ("config.input.text_column", None),
        ("config.output.keep_text", None),
        ("checkpoint", None),
    ],
)
def test_a_fact_belongs_to_the_step_it_decides(path, step):
    changed = changed_steps(FINGERPRINT, _with(FINGERPRINT, path.split(".")))
    assert list(changed) == ([] if step is None else [step])
    if step:
        assert changed[step] == [line for line in changed[step] if line.startswith(f"{path} was ")]


def _with(tree, path):
    if len(path) == 1:
        return {**tree, path[0]: "another"}
    return {**tree, path[0]: _with(tree[path[0]], path[1:])}
