"""What decides a run's output, by the step that it decides: which of two runs' steps agree."""

from collections.abc import Mapping
from typing import Any

from linkner_ray.config import ExtractConfig

STEPS = ("code", "sentences", "encoder", "calibration", "routing", "llm")
"""Steps over a given text, in the order of the pipeline."""

_DECIDED_BY = {
    "code": "code",
    "encoder": "encoder",
    "labels": "encoder",
    "calibration": "calibration",
    "budget_over": "routing",
    "link": "routing",
    "llm": "llm",
    "prompt": "llm",
    "demonstrations": "llm",
    "label_set": "llm",
    **{
        f"config.{section}": getattr(field.annotation, "decides", None)
        for section, field in ExtractConfig.model_fields.items()
    },
    **{f"config.{key}": step for key, step in ExtractConfig.steps_by_key().items()},
}
"""Inputs of a plan with the step that each decides, the longest name first. What a key of the
config decides is said at the key; one that is gone decided what its section does. An input that is
not listed decides no step over a given text."""

LOCAL_STEPS = ("code", "sentences", "encoder", "calibration")
"""Steps before the candidates: where one of them differs, the encoder has to run."""


def changed_steps(previous: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, list[str]]:
    """Steps that two plans decide differently, each with the inputs that differ."""
    found: dict[str, list[str]] = {step: [] for step in STEPS}
    for name, line in differences(previous, current):
        step = _step_of(name)
        if step is not None:
            found[step].append(line)
    return {step: lines for step, lines in found.items() if lines}


def differences(previous: Any, current: Any, name: str = "") -> list[tuple[str, str]]:  # noqa: ANN401
    """Dotted names at which two JSON trees differ, each with a line that says both values."""
    if isinstance(previous, Mapping) and isinstance(current, Mapping):
        lines = []
        for key in sorted({*previous, *current}):
            dotted = f"{name}.{key}" if name else key
            lines += differences(previous.get(key), current.get(key), dotted)
        return lines
    return [] if previous == current else [(name, f"{name} was {previous!r}, is {current!r}")]


def _step_of(name: str) -> str | None:
    """The step that an input decides; None if it decides none."""
    parts = name.split(".")
    prefixes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    step = next((_DECIDED_BY[prefix] for prefix in prefixes if prefix in _DECIDED_BY), None)
    return step if step in STEPS else None
