"""The parts of an evaluation's report on asking: what it gains, and what it changed."""

from collections.abc import Mapping

from linkner_ray.errors import counted
from linkner_ray.evaluation.flips import Flips, with_total
from linkner_ray.evaluation.judge import Point
from linkner_ray.evaluation.set_result import SetResult
from linkner_ray.evaluation.study import LLM, SystemCurve
from linkner_ray.reporting.tables import Row, markdown_table, markdown_text

ASKING_LEGEND = """\
Strict F1 where a share of the set's candidates is put to the LLM, the most uncertain first; no gold
chooses them. In brackets, points gained over the local model, `~` where that may be chance. The
oracle answers by gold and is the bound from above; a random router asks as many candidates, but
any (mean over orders). What dev chose is a threshold fixed before this set was seen. Under a link
those are asked first whose answers are expected to gain most, and it decides."""


def asking_table(result: SetResult) -> str:
    """A row for each system: F1 at each share, and at the threshold that dev chose."""
    study = result.study
    shares = sorted({share for one in study.systems for share in one.points})
    has_dev = any(one.at_dev is not None for one in study.systems)
    rows: list[Row] = []
    for one in study.systems:
        cells = {f"{share:.0%}": _point(one.points.get(share)) for share in shares}
        rows.append({"system": one.name, **cells, **_dev_cells(one, has_dev=has_dev)})
    for who, found in study.random.items():
        name = "random router" if who == LLM else "random router, oracle"
        cells = {f"{s:.0%}": f"{found[s]:.4f}" if s in found else "-" for s in shares}
        rows.append(
            {"system": name, **cells, **({"dev chose": "", "asked": ""} if has_dev else {})}
        )
    return markdown_table(rows)


def beside_curves(result: SetResult) -> list[str]:
    """Paragraphs on the LLM alone."""
    study, lines = result.study, []
    if study.llm_alone_f1 is not None:
        lines += [f"Every candidate decided by the LLM alone: F1 {study.llm_alone_f1:.4f}.", ""]
    if study.llm_extraction_f1 is not None:
        lines += [
            f"What the LLM extracted from the sentences without a local model: F1 "
            f"{study.llm_extraction_f1:.4f}.",
            "",
        ]
    return lines


def asking_section(result: SetResult) -> list[str]:
    """Lines of the report on the questions of one set."""
    cost = result.cost
    verdicts = ", ".join(f"{count:,} {name}" for name, count in result.verdicts.items())
    lines = [
        f"### {markdown_text(result.name)}: asking",
        "",
        f"{counted(cost.num_questions, 'question')}, of them {cost.num_asked:,} asked now and "
        f"{cost.num_from_cache:,} from the cache; {cost.prompt_tokens:,} prompt tokens. Verdicts "
        f"on {result.num_routed:,} routed candidates: {verdicts}.",
        "",
    ]
    for title, flips in (("asked", result.routed), ("audited", result.audited)):
        if flips:
            lines += [f"#### {markdown_text(result.name)}: {title}", "", flips_table(flips), ""]
    lines += [
        "Candidates by local label, before and after; audited ones as if their answers had "
        "counted. A span is right if gold has it with these boundaries and this label, or has "
        "nothing there and neither have we.",
        "",
    ]
    for paragraph in asking_advice(result.routed, result.audited):
        lines += [paragraph, ""]
    return lines


def _dev_cells(system: SystemCurve, *, has_dev: bool) -> Row:
    if not has_dev:
        return {}
    point = system.at_dev
    asked = "-" if point is None else f"{point.asked_share:.1%}"
    return {"dev chose": _point(point), "asked": asked}


def _point(point: Point | None) -> str:
    if point is None:
        return "-"
    if not point.num_asked:
        return f"{point.f1:.4f}"
    mark = "~" if point.gain.is_inside else ""
    return f"{point.f1:.4f} ({100 * point.gain.difference:+.2f}{mark})"


def asking_advice(routed: Mapping[str, Flips], audited: Mapping[str, Flips]) -> list[str]:
    """Paragraphs of a report that recommend what to do about labels that lose by being asked."""
    costly = {label: found for label, found in routed.items() if found.net_per_1000 < 0}
    lines = []
    for label, found in costly.items():
        low, high = found.interval
        doubt = "beyond doubt" if high < 0 else "which may be chance: the interval holds 0"
        lines.append(
            f"Asking about {label} puts more wrong than right, {found.net_per_1000:+.0f} for each "
            f"1,000 asked ({low:+.0f} to {high:+.0f}), {doubt}. "
            f"`routing.never_ask: [{label}]` switches it off."
        )
    if routed and not costly:
        lines.append("No label loses by being asked about; `routing.never_ask` can stay empty.")
    losing = [label for label, found in audited.items() if found.interval[1] < 0]
    if losing:
        lines.append(
            f"Asking about certain spans of {', '.join(losing)} too would do harm beyond doubt: do "
            "not lower `routing.threshold` for the sake of these."
        )
    return lines


def flips_table(flips: Mapping[str, Flips]) -> str:
    """Flips as a Markdown table: a row for each label, then all."""
    rows = []
    for label, found in with_total(flips).items():
        low, high = found.interval
        rows.append(
            {
                "label": markdown_text(label) if label in flips else "**all**",
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
