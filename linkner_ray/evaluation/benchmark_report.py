"""What a benchmark says of each labelled set, and the page that says it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from linkner_ray.evaluation.bootstrap import Interval
from linkner_ray.evaluation.candidates import CandidateFigures
from linkner_ray.evaluation.detection import OodDetection
from linkner_ray.evaluation.flips import (
    Flips,
    ProductFit,
    asking_advice,
    flip_facts,
    flips_table,
)
from linkner_ray.evaluation.scores import Scores, scores_table


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResult:
    """Scores of one labelled set."""

    name: str
    num_sentences: int
    num_gold: int
    num_unreachable: int
    """Gold entities longer than the model's maximum width; they count as missed."""

    num_candidates: int
    num_routed: int
    candidates: CandidateFigures
    """Reach, calibration and error detection of the local model's candidates."""
    verdicts: Mapping[str, int]
    """Routed candidates by what came of asking."""

    local: Scores
    """The local model alone, on the same candidates."""

    linked: Scores
    """Local and LLM together."""

    gain: Interval
    """Linked F1 less local F1."""

    routed: Mapping[str, Flips]
    """What asking did to the routed candidates, by local label."""

    audited: Mapping[str, Flips]
    """What it would have done to the audited ones."""

    product: ProductFit | None
    """Fusion by product, fitted on this set; None where no answer could be read."""

    def facts(self) -> dict[str, object]:
        """As JSON values."""
        flips = {"routed": flip_facts(self.routed), "audited": flip_facts(self.audited)}
        return {**asdict(self), **flips}


def describe_benchmark(results: Sequence[SetResult], ood: Mapping[str, OodDetection]) -> str:
    """A report as Markdown.

    Args:
        results: Of each set, in order.
        ood: What tells each set but the first from that.
    """
    parts = ["# Evaluation", "", "Strict entity scores: boundaries and label must be right.", ""]
    parts += [summary_table(results), "", _GAIN_LEGEND, ""]
    parts += ["## Candidates of the local model", ""]
    parts += [_CANDIDATES_LEGEND, "", candidates_table(results), ""]
    if ood:
        parts += [f"## Text unlike {results[0].name}", "", _OOD_LEGEND, "", ood_table(ood), ""]
    parts += [f"![{r.name}](reliability-{r.name}.png)\n" for r in results]
    for result in results:
        parts += [f"## {result.name}: local", "", scores_table(result.local), ""]
        parts += [f"## {result.name}: linked", "", scores_table(result.linked), ""]
        verdicts = ", ".join(f"{count:,} {name}" for name, count in result.verdicts.items())
        parts += [f"Verdicts on {result.num_routed:,} routed candidates: {verdicts}.", ""]
        parts += _asking(result)
    return "\n".join(parts)


def _asking(result: SetResult) -> list[str]:
    """What asking did, as lines of the report; nothing for a run without an LLM."""
    lines = []
    for title, flips in (("asked", result.routed), ("audited", result.audited)):
        if flips:
            lines += [f"## {result.name}: {title}", "", flips_table(flips)]
    if lines:
        lines += [
            "Candidates by local label, before and after; the audited ones as if their answers had "
            "counted. A span is right if gold has it with these boundaries and this label, or has "
            "nothing there and neither have we.",
            "",
        ]
    for paragraph in asking_advice(result.routed, result.audited):
        lines += [paragraph, ""]
    if result.product:
        fit = result.product
        lines += [
            f"Fitted on these {fit.num_spans:,} answers: `fusion.weight={fit.weight:.3f}`; the LLM "
            f"named gold's class in {fit.reliability:.1%} of them (`fusion.reliability`). "
            "Both come from this set's gold and are for other sets: scored here, they flatter.",
            "",
        ]
    return lines


def summary_table(results: Sequence[SetResult]) -> str:
    """One Markdown row for each set."""
    rows: list[Mapping[str, str]] = [
        {
            "set": result.name,
            "sentences": f"{result.num_sentences:,}",
            "gold": f"{result.num_gold:,}",
            "too wide": str(result.num_unreachable),
            "local F1": f"{result.local.micro.f1:.4f}",
            "linked F1": f"{result.linked.micro.f1:.4f}",
            "gain": _gain(result.gain) if result.num_routed else "-",
            "routed share": f"{result.num_routed / max(1, result.num_candidates):.3f}",
        }
        for result in results
    ]
    return _markdown(rows)


_CANDIDATES_LEGEND = """\
Reach is the share of gold entities whose boundaries a candidate has, and so what an LLM could still
put right; extra are doubted candidates for each predicted one. Calibration error (bins of equal
mass) and Brier score are of predicted candidates; AUROC is the chance that a wrong one is more
uncertain than a right one, AUPR the average precision of finding wrong ones (their share, if
uncertainty says nothing), AURC the mean share of wrong ones among the surest, and its excess is
over an order that knows which are wrong."""

_GAIN_LEGEND = """\
Gain is linked less local F1, with its interval of 95 % (paired bootstrap over sentences)."""

_OOD_LEGEND = """\
Uncertainty of predicted entities against those of the first set; positive are the other set's.
FPR@95 is the share of the first set that is taken for the other where 95 % of the other are
found."""


def candidates_table(results: Sequence[SetResult]) -> str:
    """One Markdown row for each set: what its candidates are worth."""
    return _markdown(
        [
            {
                "set": result.name,
                "predicted": f"{figures.num_predicted:,}",
                "extra": f"{figures.extra_share:.3f}",
                "reach": f"{figures.reach:.4f}",
                "of predicted": f"{figures.reach_predicted:.4f}",
                "calibration error": f"{figures.ece:.4f}",
                "Brier": f"{figures.brier:.4f}",
                "AUROC": _figure(figures.detection.auroc),
                "AUPR": _figure(figures.detection.aupr),
                "AURC": _figure(figures.detection.aurc),
                "excess AURC": _figure(figures.detection.excess_aurc),
            }
            for result in results
            for figures in [result.candidates]
        ]
    )


def ood_table(ood: Mapping[str, OodDetection]) -> str:
    """One Markdown row for each set but the first: how well uncertainty tells it from that."""
    return _markdown(
        [
            {
                "set": name,
                "entities": f"{found.num_out:,}",
                "of the first": f"{found.num_in:,}",
                "AUROC": _figure(found.auroc),
                "FPR@95": _figure(found.fpr_at_95),
            }
            for name, found in ood.items()
        ]
    )


def _gain(gain: Interval) -> str:
    """A difference of F1 in points, and whether it may be chance."""
    bounds = f"{100 * gain.difference:+.2f} ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
    return f"{bounds}, inside its interval" if gain.is_inside else bounds


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows of the same keys as a table."""
    header = list(rows[0])
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows]
    return "\n".join(lines)
