"""What asking did, where gold is known: right made wrong, wrong made right, and its benefit.

The local decision on a predicted candidate is its label, on a near miss non-entity; the final
decision is the entity of the same boundaries in the output, or non-entity. A decision is right if
gold has exactly that entity, or nothing with those boundaries. Boundaries that were put right thus
count twice: the wrong span was dropped and the right one found.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from linkner_ray.config import FusionConfig
from linkner_ray.corpora.scores import Entity, labels_by_place
from linkner_ray.evaluation.fusion_weight import fit_product_weight
from linkner_ray.labels import NON_ENTITY
from linkner_ray.reporting.tables import markdown_table, markdown_text
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities, choice_probs

Z_95 = 1.959964
"""Normal quantile of a two-sided interval of 95 %."""

READABLE = ("label", "non_entity")
"""Verdicts that name a class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Candidates that were asked about, by the local and the final decision."""

    wrong_to_right: int = 0
    right_to_wrong: int = 0
    stayed_right: int = 0
    stayed_wrong: int = 0

    def __add__(self, other: "Flips") -> "Flips":
        """Both together."""
        return Flips(
            wrong_to_right=self.wrong_to_right + other.wrong_to_right,
            right_to_wrong=self.right_to_wrong + other.right_to_wrong,
            stayed_right=self.stayed_right + other.stayed_right,
            stayed_wrong=self.stayed_wrong + other.stayed_wrong,
        )

    @property
    def asked(self) -> int:
        """All of them."""
        return self.wrong_to_right + self.right_to_wrong + self.stayed_right + self.stayed_wrong

    @property
    def net_per_1000(self) -> float:
        """Decisions put right less those put wrong, for each 1,000 asked; 0 if none was."""
        net = self.wrong_to_right - self.right_to_wrong
        return 1000 * net / self.asked if self.asked else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of 95 % around `net_per_1000`, for spans that are drawn one by one."""
        low, high = net_interval(self.wrong_to_right, self.right_to_wrong, self.asked)
        return 1000 * low, 1000 * high


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductFit:
    """What gold says of fusion by product, over routed spans whose answer names a class."""

    num_spans: int
    weight: float
    """Likeliest `fusion.weight`."""

    reliability: float
    """Share of answers that name gold's class; likeliest `fusion.reliability` of choices."""


def net_interval(ups: int, downs: int, total: int, *, z: float = Z_95) -> tuple[float, float]:
    """Interval of the difference of two shares of the same trials, which exclude each other.

    Built from Wilson's interval of each share, so it does not collapse where nothing flipped.

    Args:
        ups: Trials counted as +1.
        downs: Trials counted as -1.
        total: All trials; the others count as 0.
        z: Normal quantile of the wanted confidence.

    Returns:
        Bounds in [-1, 1]; all of it for no trials.

    Reference:
        Newcombe (1998), Interval estimation for the difference between independent proportions;
        with the correlation of two shares of one sample as in Zou and Donner (2008).
    """
    if not total:
        return -1.0, 1.0
    up, down = ups / total, downs / total
    (up_low, up_high), (down_low, down_high) = (_wilson(n, total, z) for n in (ups, downs))
    spread = math.sqrt(up * (1 - up) * down * (1 - down))
    correlation = -up * down / spread if spread else 0.0
    below = _length(up - up_low, down_high - down, correlation)
    above = _length(up_high - up, down - down_low, correlation)
    return max(up - down - below, -1.0), min(up - down + above, 1.0)


def _wilson(count: int, total: int, z: float) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    share, part = count / total, z * z / total
    centre = (share + part / 2) / (1 + part)
    half = z / (1 + part) * math.sqrt(share * (1 - share) / total + part / (4 * total))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _length(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0.0))


def count_flips(
    table: pa.Table, gold: Sequence[Collection[Entity]], *, route: str = "llm"
) -> dict[str, Flips]:
    """Flips among the candidates of a route, by their local label, in alphabetical order.

    Args:
        table: Documents after the last stage.
        gold: Gold entities of each document.
        route: Which candidates to look at.
    """
    found: dict[str, Flips] = {}
    columns = (table[name].to_pylist() for name in ("candidates", "routes", "entities"))
    for candidates, routes, entities, golden in zip(*columns, gold, strict=True):
        right = labels_by_place(golden)
        final = labels_by_place((e["start"], e["end"], e["label"]) for e in entities)
        for candidate, taken in zip(candidates, routes, strict=True):
            if taken != route:
                continue
            place = (candidate["start"], candidate["end"])
            truth = right.get(place, {NON_ENTITY})
            local = candidate["label"] if candidate["kind"] == "predicted" else NON_ENTITY
            flip = _flip(was_right=local in truth, is_right=final.get(place, {NON_ENTITY}) <= truth)
            found[candidate["label"]] = found.get(candidate["label"], Flips()) + flip
    return dict(sorted(found.items()))


def _flip(*, was_right: bool, is_right: bool) -> Flips:
    if was_right:
        return Flips(stayed_right=1) if is_right else Flips(right_to_wrong=1)
    return Flips(wrong_to_right=1) if is_right else Flips(stayed_wrong=1)


def as_if_routed(table: pa.Table, fusion: FusionConfig, classes: Sequence[str]) -> pa.Table:
    """Documents with the entities they would have if the answers to audits counted.

    Args:
        table: Documents after the last stage.
        fusion: Of the run.
        classes: `LabelSet.classes`.
    """
    counted = [
        ["llm" if route == "audit" else route for route in row]
        for row in table["routes"].to_pylist()
    ]
    column = pa.array(counted, STAGE_COLUMNS["routes"])
    asked = table.drop_columns(["routes", "entities"]).append_column("routes", column)
    fused = apply_stage(FuseEntities(fusion, classes), asked)
    return fused.drop_columns(["routes"]).append_column("routes", table["routes"])


def fit_product(
    table: pa.Table,
    gold: Sequence[Collection[Entity]],
    classes: Sequence[str],
    *,
    reliability: float,
) -> ProductFit | None:
    """Fit the weight of a product on routed candidates; None if no answer could be read.

    Args:
        table: Documents with candidates, routes and answers.
        gold: Gold entities of each document.
        classes: `LabelSet.classes`.
        reliability: Of answers without probabilities.
    """
    local, theirs, truth, chosen = [], [], [], []
    columns = (table[name].to_pylist() for name in ("candidates", "routes", "answers"))
    for candidates, routes, answers, golden in zip(*columns, gold, strict=True):
        right = {(start, end): classes.index(label) for start, end, label in golden}
        for candidate, route, answer in zip(candidates, routes, answers, strict=True):
            if route != "llm" or answer["verdict"] not in READABLE:
                continue
            choice = classes.index(answer["label"] or NON_ENTITY)
            bare = choice_probs(choice, len(classes), reliability)
            local.append(candidate["label_probs"])
            theirs.append(answer["probs"] or bare)
            truth.append(right.get((candidate["start"], candidate["end"]), 0))
            chosen.append(choice)
    if not truth:
        return None
    weight = fit_product_weight(np.array(local), np.array(theirs), np.array(truth))
    agreed = float(np.mean(np.array(truth) == np.array(chosen)))
    return ProductFit(num_spans=len(truth), weight=weight, reliability=agreed)


def harmful_labels(flips: Mapping[str, Flips]) -> list[str]:
    """Labels that asking makes worse beyond doubt: their whole interval lies below zero."""
    return [label for label, found in flips.items() if found.interval[1] < 0]


def costly_labels(flips: Mapping[str, Flips]) -> list[str]:
    """Labels whose net benefit is below zero, whether beyond doubt or not."""
    return [label for label, found in flips.items() if found.net_per_1000 < 0]


def asking_advice(routed: Mapping[str, Flips], audited: Mapping[str, Flips]) -> list[str]:
    """What the net benefit of each label says is to be done, as paragraphs of a report.

    Args:
        routed: Flips of the candidates that were asked about, by local label.
        audited: The same of certain candidates, as if their answers had counted.
    """
    costly, harmful = costly_labels(routed), harmful_labels(routed)
    lines = []
    for label in costly:
        found = routed[label]
        low, high = found.interval
        doubt = "beyond doubt" if label in harmful else "which may be chance: the interval holds 0"
        lines.append(
            f"Asking about {label} puts more wrong than right, {found.net_per_1000:+.0f} for each "
            f"1,000 asked ({low:+.0f} to {high:+.0f}), {doubt}. "
            f"`routing.never_ask: [{label}]` switches it off."
        )
    if routed and not costly:
        lines.append("No label loses by being asked about; `routing.never_ask` can stay empty.")
    losing = harmful_labels(audited)
    if losing:
        lines.append(
            f"Asking about certain spans of {', '.join(losing)} too would do harm beyond doubt: do "
            "not lower `routing.threshold` for the sake of these."
        )
    return lines


def flips_table(flips: Mapping[str, Flips]) -> str:
    """Flips as a Markdown table: a row for each label, then all."""
    rows = []
    for name, found in (
        *((markdown_text(label), one) for label, one in flips.items()),
        ("**all**", sum(flips.values(), Flips())),
    ):
        low, high = found.interval
        rows.append(
            {
                "label": name,
                "asked": f"{found.asked:,}",
                "wrong to right": f"{found.wrong_to_right:,}",
                "right to wrong": f"{found.right_to_wrong:,}",
                "stayed right": f"{found.stayed_right:,}",
                "stayed wrong": f"{found.stayed_wrong:,}",
                "net per 1,000 asked": f"{found.net_per_1000:+.0f}",
                "95 % interval": f"{low:+.0f} to {high:+.0f}",
            }
        )
    return markdown_table(rows)


def flips_as_dict(flips: Mapping[str, Flips]) -> dict[str, dict[str, object]]:
    """Flips as JSON values, by label and for "all"."""
    return {
        label: {
            **asdict(found),
            "asked": found.asked,
            "net_per_1000": found.net_per_1000,
            "interval": list(found.interval),
        }
        for label, found in (*flips.items(), ("all", sum(flips.values(), Flips())))
    }
