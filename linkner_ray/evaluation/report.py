"""The report of an evaluation as Markdown."""

from collections.abc import Mapping, Sequence

from linkner_ray.corpora.scores import Counts
from linkner_ray.errors import refuse_bare_string
from linkner_ray.evaluation.asking_report import (
    ASKING_LEGEND,
    asking_section,
    asking_table,
    beside_curves,
)
from linkner_ray.evaluation.bootstrap import Interval
from linkner_ray.evaluation.detection import OodDetection
from linkner_ray.evaluation.matching import KINDS
from linkner_ray.evaluation.set_result import SetResult, SystemScores
from linkner_ray.reporting.tables import Row, markdown_table, markdown_text, scores_table

Ood = Mapping[str, Mapping[str, OodDetection]]
"""How well uncertainty tells each set but the first from the first: by set, then by estimate."""

_GAIN_LEGEND = """\
F1 with the interval of 95 % in which it lies, and linked less local F1 with its own: bootstrap over
sentences, paired for the difference. A difference whose interval holds 0 may be chance. Too wide
are gold entities longer than any span the model looks at; they count as missed."""

_CANDIDATES_LEGEND = """\
Candidate recall is the share of gold entities whose boundaries a candidate has, and so what an LLM
could still put right; extra are near misses for each predicted one. Calibration error (15 bins of
equal mass) and Brier score are of predicted candidates."""

_DETECTION_LEGEND = """\
Whether uncertainty finds the wrong ones among predicted entities. AUROC is the chance that a wrong
one is more uncertain than a right one; AUPR the average precision of finding wrong ones (their
share, if uncertainty says nothing); AURC the mean share of wrong ones among the surest, and its
excess is over an order that knows which are wrong."""

_OOD_LEGEND = """\
Uncertainty of predicted entities against those of the first set; positive are the other set's.
FPR@95 is the share of the first set that is taken for the other where 95 % of the other are
found."""

_SOURCE_LEGEND = """\
Entities of the output by who decided them: the local model, the LLM, or the LLM in an answer that
was kept in an answer cache or recorded."""

_MATCH_LEGEND = """\
strict: boundaries and label; boundaries: whatever the label; label: overlaps an entity of that
label; partial: any overlap, worth a half unless the boundaries are right. Of a label, the value
under boundaries is a recall: the share of its gold entities whose boundaries were found, whatever
they were called."""


def describe_evaluation(results: Sequence[SetResult], ood: Ood, notes: tuple[str, ...] = ()) -> str:
    """A report as Markdown, beside its pictures; notes are sentences for the reader."""
    refuse_bare_string("notes", notes)
    parts = ["# Evaluation", "", summary_table(results), "", _GAIN_LEGEND, ""]
    parts += [line for note in notes for line in (note, "")]
    parts += ["![F1 of each set](plots/f1.png)", ""]
    parts += ["## What asking gains", "", ASKING_LEGEND, ""]
    for result in results:
        parts += [f"### {result.name}", "", asking_table(result), "", *beside_curves(result)]
        parts += [f"![{result.name}](plots/asking-{result.name}.png)", ""]
        if len(result.detections) > 1:
            parts += [f"![{result.name}, by estimate](plots/estimates-{result.name}.png)", ""]
    parts += ["## Candidates of the local model", "", _CANDIDATES_LEGEND, ""]
    parts += [candidates_table(results), "", _DETECTION_LEGEND, "", detection_table(results), ""]
    if ood:
        parts += [f"## Text unlike {results[0].name}", "", _OOD_LEGEND, "", ood_table(ood), ""]
    for result in results:
        parts += _set_section(result)
    return "\n".join(parts)


def summary_table(results: Sequence[SetResult]) -> str:
    """One Markdown row for each set."""
    return markdown_table(
        [
            {
                "set": markdown_text(result.name),
                "sentences": f"{result.num_sentences:,}",
                "gold": f"{result.num_gold:,}",
                "too wide": str(result.num_unreachable),
                "local F1": _f1(result.local),
                "linked F1": _f1(result.linked),
                "gain": _gain(result.gain) if result.num_routed else "-",
                "asked": f"{result.routed_share:.1%}",
                "questions": f"{result.cost.num_questions:,}",
                "points per 1,000": _signed(result.cost.gain_per_1000),
            }
            for result in results
        ]
    )


def candidates_table(results: Sequence[SetResult]) -> str:
    """One Markdown row for each set: what its candidates are worth."""
    return markdown_table(
        [
            {
                "set": markdown_text(result.name),
                "predicted": f"{figures.num_predicted:,}",
                "extra": f"{figures.extra_share:.3f}",
                "candidate_recall": f"{figures.candidate_recall:.4f}",
                "of predicted": f"{figures.candidate_recall_predicted:.4f}",
                "calibration error": f"{figures.ece:.4f}",
                "Brier": f"{figures.brier:.4f}",
            }
            for result in results
            for figures in [result.candidates]
        ]
    )


def detection_table(results: Sequence[SetResult]) -> str:
    """One Markdown row for each set and estimate: whether uncertainty finds the errors."""
    return markdown_table(
        [
            {
                "set": markdown_text(result.name),
                "estimate": estimate,
                "wrong": f"{found.num_errors:,} of {found.num_entities:,}",
                "AUROC": _figure(found.auroc),
                "AUPR": _figure(found.aupr),
                "AURC": _figure(found.aurc),
                "excess AURC": _figure(found.excess_aurc),
            }
            for result in results
            for estimate, found in result.detections.items()
        ]
    )


def ood_table(ood: Ood) -> str:
    """One Markdown row for each set but the first and each estimate."""
    return markdown_table(
        [
            {
                "set": markdown_text(name),
                "estimate": estimate,
                "entities": f"{found.num_out:,}",
                "of the first": f"{found.num_in:,}",
                "AUROC": _figure(found.auroc),
                "FPR@95": _figure(found.fpr_at_95),
            }
            for name, estimates in ood.items()
            for estimate, found in estimates.items()
        ]
    )


def _set_section(result: SetResult) -> list[str]:
    """All about one set."""
    name = markdown_text(result.name)
    systems = {"local": result.local} | ({"linked": result.linked} if result.num_routed else {})
    parts = [f"## {name}", "", *_mapped(result)]
    for system, scores in systems.items():
        parts += [f"### {name}: {system}", "", scores_table(scores.strict), ""]
    parts += [f"### {name}: how nearly right", "", _MATCH_LEGEND, "", _match_table(systems), ""]
    parts += [f"### {name}: seen in training, and length", "", _slice_table(systems), ""]
    parts += [f"### {name}: who decided", "", _SOURCE_LEGEND, "", _source_table(result), ""]
    parts += [f"### {name}: by predicted label", "", _label_table(result), ""]
    parts += [f"![reliability](plots/reliability-{result.name}.png)", ""]
    parts += [f"![risk and coverage](plots/risk-coverage-{result.name}.png)", ""]
    if result.num_routed:
        parts += asking_section(result)
    return parts


def _mapped(result: SetResult) -> list[str]:
    if not result.renamed and not result.dropped:
        return []
    renamed = ", ".join(f"{name} {count:,}" for name, count in result.renamed.items())
    dropped = ", ".join(f"{name} {count:,}" for name, count in result.dropped.items()) or "none"
    return [f"Labels were mapped: {renamed}. Dropped from gold: {dropped}.", ""]


def _match_table(systems: Mapping[str, SystemScores]) -> str:
    """F1 under each kind of match, all labels and each."""
    rows: list[Row] = []
    for system, scores in systems.items():
        rows.append(
            {
                "system": system,
                "entities": "**all**",
                **{kind: f"{scores.matches[kind].f1:.4f}" for kind in KINDS},
            }
        )
        for label, matches in scores.matches_by_label.items():
            cells = {kind: f"{matches[kind].f1:.4f}" for kind in KINDS}
            cells["boundaries"] = f"{matches['boundaries'].recall:.4f} (recall)"
            rows.append({"system": system, "entities": markdown_text(label), **cells})
    return markdown_table(rows)


def _slice_table(systems: Mapping[str, SystemScores]) -> str:
    """P, R and F1 by what training held and by length."""
    return markdown_table(
        [
            {"system": system, "entities": name, **_counts_cells(counts)}
            for system, scores in systems.items()
            for kind, slices in (("", scores.seen), (" tokens", scores.lengths))
            for name, counts in (
                (f"{name}{kind}".replace("1 tokens", "1 token"), one)
                for name, one in slices.items()
            )
        ]
    )


def _source_table(result: SetResult) -> str:
    return markdown_table(
        [
            {
                "source": source,
                "entities": f"{one.num_entities:,}",
                "right": f"{one.num_right:,}",
                "precision": f"{one.precision:.4f}",
            }
            for source, one in result.sources.items()
        ]
    )


def _label_table(result: SetResult) -> str:
    return markdown_table(
        [
            {
                "label": markdown_text(label),
                "predicted": f"{found.detection.num_entities:,}",
                "wrong": f"{found.detection.num_errors:,}",
                "calibration error": f"{found.ece:.4f}",
                "Brier": f"{found.brier:.4f}",
                "AUROC": _figure(found.detection.auroc),
                "AUPR": _figure(found.detection.aupr),
            }
            for label, found in result.candidates.by_label.items()
        ]
    )


def _counts_cells(counts: Counts) -> Row:
    return {
        "precision": f"{counts.precision:.4f}",
        "recall": f"{counts.recall:.4f}",
        "F1": f"{counts.f1:.4f}",
        "gold": f"{counts.support:,}",
        "predicted": f"{counts.num_predicted:,}",
    }


def _f1(scores: SystemScores) -> str:
    low, high = scores.interval
    return f"{scores.micro.f1:.4f} ({low:.4f} to {high:.4f})"


def _gain(gain: Interval) -> str:
    """A difference of F1 in points, and whether it may be chance."""
    bounds = f"{100 * gain.difference:+.2f} ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
    return f"{bounds}, inside its interval" if gain.is_inside else bounds


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
