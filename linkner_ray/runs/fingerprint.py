"""What decides a run's output, by the step that it decides: which of two runs' steps agree."""

from collections.abc import Mapping
from typing import Any

STEPS: dict[str, tuple[str, ...]] = {
    "code": ("code",),
    "sentences": ("config.sentences",),
    "encoder": ("encoder", "labels", "config.recognize"),
    "calibration": (
        "calibration",
        "config.recognize.uncertainty",
        "config.recognize.near_miss_floor",
        "config.recognize.max_near_misses",
        "config.recognize.certain_confidence",
    ),
    "routing": ("config.routing", "budget_over"),
    "llm": ("config.llm", "llm", "prompt", "demonstrations", "label_set"),
    "fusion": ("config.fusion",),
}
"""Steps in the order of the pipeline, each with the inputs of a plan that decide it, by dotted
name. The longest name that an input begins with counts. Inputs that are named nowhere decide
how documents are read and cut into units, or what is kept, and no step over a given text."""

LOCAL_STEPS = ("code", "sentences", "encoder", "calibration")
"""Steps before the candidates: where one of them differs, the encoder has to run."""


def changed_steps(previous: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, list[str]]:
    """Steps that two plans decide differently, each with the inputs that differ.

    Args:
        previous: Fingerprint of a plan.
        current: Fingerprint of another.
    """
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
    best, longest = None, 0
    for step, prefixes in STEPS.items():
        for prefix in prefixes:
            if (name == prefix or name.startswith(f"{prefix}.")) and len(prefix) > longest:
                best, longest = step, len(prefix)
    return best
