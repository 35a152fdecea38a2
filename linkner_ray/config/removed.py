"""What configs and commands no longer take, and what there is instead."""

from collections.abc import Mapping, Sequence

_NO_PROMISE = 'thresholds of dev are routing.threshold_for = "asked=5%" or "risk=2%"'
_NO_VETO = "strategies are override and product"
_FOUR_ESTIMATES = "estimates are confidence, entropy, mc_dropout and evidential"

REMOVED: Mapping[str, str] = {
    "calibrate --alpha": _NO_PROMISE,
    "calibrate --delta": _NO_PROMISE,
    "calibrate --uncertainty": _NO_PROMISE,
    "ledger.max_files": "runs merge no files; `linkner ledger compact FOLDER` does, at any time",
    "fusion.strategy=veto": _NO_VETO,
    "study.strategies=veto": _NO_VETO,
    "recognize.uncertainty=margin": _FOUR_ESTIMATES,
    "recognize.uncertainty=energy": _FOUR_ESTIMATES,
    "study.estimates=margin": _FOUR_ESTIMATES,
    "study.estimates=energy": _FOUR_ESTIMATES,
    "routing.threshold_for=guaranteed": _NO_PROMISE,
    "plan --cluster": "docs/sizing.md says how many encoders and engines a run needs",
    "plan --documents-per-s": "docs/sizing.md says how many encoders and engines a run needs",
}
"""By `key`, `key=value` or `command --option`."""


def removed_option(words: Sequence[str]) -> str | None:
    """What to say of the first option in a command line that was removed; None if there is none."""
    for word in words[1:]:
        option = word.partition("=")[0]
        instead = REMOVED.get(f"{words[0]} {option}")
        if instead is not None:
            return f"linkner {words[0]}: option {option} was removed; {instead}"
    return None
