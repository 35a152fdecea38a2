"""Keys and values that configs no longer have."""

from collections.abc import Mapping

_ONE_RULE = (
    "was removed; the LLM overrides, or both decide by the file that `linkner link` makes "
    "(routing.link)"
)
_ONE_ORDER = "was removed; options stand in the order of their label set, non-entity last"
_FOUR_ESTIMATES = "was removed; estimates are confidence, entropy, mc_dropout and evidential"

OLD_KEYS: Mapping[str, str] = {
    "ledger": "is called 'cache' now",
    "recognize.doubted_floor": "is called 'recognize.near_miss_floor' now",
    "recognize.max_doubted": "is called 'recognize.max_near_misses' now",
    "routing.route_doubted": "is called 'routing.route_near_misses' now",
    "cache.max_files": "was removed; runs merge no files; `linkner cache compact FOLDER` does, at "
    "any time",
    "fusion": _ONE_RULE,
    "llm.option_order": _ONE_ORDER,
    "llm.num_option_orders": _ONE_ORDER,
    "study.strategies": _ONE_RULE,
    "recognize.uncertainty=margin": _FOUR_ESTIMATES,
    "recognize.uncertainty=energy": _FOUR_ESTIMATES,
    "study.estimates=margin": _FOUR_ESTIMATES,
    "study.estimates=energy": _FOUR_ESTIMATES,
    "routing.threshold_for=guaranteed": "was removed; thresholds of dev are routing.threshold_for "
    '= "asked=5%" or "risk=2%"',
}
"""`key` or `key=value`, with what became of it."""
