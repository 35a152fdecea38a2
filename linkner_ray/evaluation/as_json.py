"""Results of an evaluation as JSON values."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

from linkner_ray.corpora.scores import Counts, Scores
from linkner_ray.evaluation.bootstrap import Interval
from linkner_ray.evaluation.flips import Flips
from linkner_ray.evaluation.judge import Point
from linkner_ray.evaluation.matching import MatchScore
from linkner_ray.evaluation.slices import SourceScore

_RATIOS = ("precision", "recall", "f1")
_DERIVED: Mapping[type, tuple[str, ...]] = {
    Counts: _RATIOS,
    Interval: ("is_inside",),
    MatchScore: _RATIOS,
    SourceScore: ("precision",),
    Point: ("gain_per_1000",),
    Flips: ("asked", "net_per_1000", "interval"),
}
"""Properties that stand beside the fields of a class."""


def as_json(value: object) -> object:
    """Dataclasses become objects, shares short strings, and pairs with their counts a list."""
    match value:
        case Scores():
            return as_json({"all": value.micro, **value.by_label})
        case Mapping():
            if any(isinstance(key, tuple) for key in value):
                return [[*key, as_json(one)] for key, one in sorted(value.items())]
            return {_name(key): as_json(one) for key, one in value.items()}
        case list() | tuple():
            return [as_json(one) for one in value]
    if not is_dataclass(value):
        return value
    names = [*(field.name for field in fields(value)), *_DERIVED.get(type(value), ())]
    return {name: as_json(getattr(value, name)) for name in names}


def _name(key: object) -> str:
    return f"{key:g}" if isinstance(key, float) else str(key)
