"""Names that configs and commands no longer have: the new name, or what there is instead."""

from collections.abc import Mapping, Sequence

RENAMED_KEYS: Mapping[str, str] = {
    "ledger": "cache",
    "recognize.doubted_floor": "recognize.near_miss_floor",
    "recognize.max_doubted": "recognize.max_near_misses",
    "routing.route_doubted": "routing.route_near_misses",
}

RENAMED_COMMANDS: Mapping[str, str] = {
    "ledger": "cache",
    "plan": "estimate",
    "predict --doubted": "predict --near-misses",
}
"""By `command` or `command --option`."""

_NO_PROMISE = 'thresholds of dev are routing.threshold_for = "asked=5%" or "risk=2%"'
_ONE_RULE = "the LLM overrides, or both decide by the file that `linkner link` makes (routing.link)"
_FOUR_ESTIMATES = "estimates are confidence, entropy, mc_dropout and evidential"

REMOVED_KEYS: Mapping[str, str] = {
    "cache.max_files": "runs merge no files; `linkner cache compact FOLDER` does, at any time",
    "fusion": _ONE_RULE,
    "study.strategies": _ONE_RULE,
    "recognize.uncertainty=margin": _FOUR_ESTIMATES,
    "recognize.uncertainty=energy": _FOUR_ESTIMATES,
    "study.estimates=margin": _FOUR_ESTIMATES,
    "study.estimates=energy": _FOUR_ESTIMATES,
    "routing.threshold_for=guaranteed": _NO_PROMISE,
}
"""By `key` or `key=value`."""

REMOVED_COMMANDS: Mapping[str, str] = {
    "demo": "the demo is a part of the repository: clone it and type `make demo` there",
    "calibrate --alpha": _NO_PROMISE,
    "calibrate --delta": _NO_PROMISE,
    "calibrate --uncertainty": _NO_PROMISE,
    "estimate --cluster": "docs/sizing.md says how many encoders and engines a run needs",
    "estimate --documents-per-s": "docs/sizing.md says how many encoders and engines a run needs",
}
"""By `command` or `command --option`."""


def old_word(words: Sequence[str]) -> str | None:
    """What to say of a command line whose command or option has another name; None if it is right.

    Args:
        words: What stands after `linkner`.
    """
    command = words[0] if words else ""
    if command in RENAMED_COMMANDS:
        return f"linkner {command}: is called `linkner {RENAMED_COMMANDS[command]}` now"
    if command in REMOVED_COMMANDS:
        return f"linkner {command}: was removed; {REMOVED_COMMANDS[command]}"
    for word in words[1:]:
        option = word.partition("=")[0]
        old = f"{command} {option}"
        if old in RENAMED_COMMANDS:
            return f"linkner {old}: is called `linkner {RENAMED_COMMANDS[old]}` now"
        instead = REMOVED_COMMANDS.get(old)
        if instead is not None:
            return f"linkner {command}: option {option} was removed; {instead}"
    return None
