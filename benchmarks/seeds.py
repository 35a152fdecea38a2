"""What do several checkpoints of one recipe, which differ in their seed, have in common?

    python -m benchmarks.seeds runs-output/seed0 runs-output/seed1 runs-output/seed2 --json FILE

Reads what `linkner evaluate` wrote for each and prints means, with the least and the greatest value
where they differ: scores of each set, F1 at each share asked, error and OOD detection by estimate.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import write_json
from linkner_ray.errors import ConfigError
from linkner_ray.evaluation.comparison import read_metrics
from linkner_ray.reporting.tables import markdown_table

Numbers = dict[str, object]
Metrics = Mapping[str, Any]
Figures = dict[tuple[str, str], float | None]
"""What one evaluation has in a table: by row and column."""

MAY_DIFFER = {"recognize": "checkpoint", "output": "path"}
"""What evaluations of one recipe need not have in common, by section of the config."""

AT_DEV = "dev's threshold"


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Print the tables, and write the figures where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evaluations", nargs="+", help="folders that `linkner evaluate` wrote")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    evaluations = [read_metrics(path) for path in options.evaluations]
    numbers: Numbers = {"evaluations": len(evaluations)}
    for title, figures in collect(evaluations).items():
        print(f"## {title}\n\n{as_table(figures)}\n")
        for (row, column), values in figures.items():
            numbers[f"{title}: {row}: {column}"] = values
    if options.json:
        write_json(options.json, numbers)
    return numbers


def collect(
    evaluations: Sequence[Metrics],
) -> dict[str, dict[tuple[str, str], list[float | None]]]:
    """Figures of all evaluations, by table, row and column.

    Raises:
        ConfigError: If they are not of one recipe, or not of the same sets.
    """
    first = _recipe(evaluations[0])
    for number, one in enumerate(evaluations[1:], start=2):
        if differing := sorted(key for key in first if _recipe(one).get(key) != first[key]):
            raise ConfigError(f"evaluation 1 and {number} differ in {differing}, not in seed alone")
    tables = [_tables(one) for one in evaluations]
    return {
        title: {place: [found[title].get(place) for found in tables] for place in figures}
        for title, figures in tables[0].items()
    }


def as_table(figures: Mapping[tuple[str, str], Sequence[float | None]]) -> str:
    """Means with their ranges, rows and columns in the order they come in."""
    rows, columns = (list(dict.fromkeys(place[at] for place in figures)) for at in (0, 1))
    return markdown_table(
        [
            {"": row} | {column: _cell(figures.get((row, column), ())) for column in columns}
            for row in rows
        ]
    )


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return ""
    mean = f"{np.mean(known):.4f}"
    if len(set(known)) == 1:
        return mean
    return f"{mean} ({min(known):.4f} to {max(known):.4f})"


def _recipe(evaluation: Metrics) -> dict[str, object]:
    """The config without what may differ, by section."""
    recipe = dict(evaluation["config"])
    for section, name in MAY_DIFFER.items():
        recipe[section] = {**recipe[section], name: None}
    if named := evaluation["threshold_for"]:
        # The dev set of each checkpoint chose a number of its own for it.
        recipe["routing"] = {**recipe["routing"], "threshold": named}
    return recipe


def _tables(evaluation: Metrics) -> dict[str, Figures]:
    tables: dict[str, Figures] = {"sets": {}}
    for one in evaluation["sets"]:
        name = one["name"]
        tables["sets"] |= {(name, column): value for column, value in _scores(one).items()}
        tables[f"{name}: F1 by share asked"] = _by_share(one["study"], one["local"])
        tables[f"{name}: errors, by estimate"] = {
            (estimate, figure): found[figure]
            for estimate, found in one["detections"].items()
            for figure in ("auroc", "aupr", "aurc", "excess_aurc")
        }
    tables["OOD, by set and estimate"] = {
        (f"{name}, {estimate}", figure): found[figure]
        for name, estimates in evaluation["ood"].items()
        for estimate, found in estimates.items()
        for figure in ("auroc", "fpr_at_95")
    }
    return {title: figures for title, figures in tables.items() if figures}


def _scores(one: Metrics) -> dict[str, float | None]:
    local, linked, candidates = one["local"], one["linked"], one["candidates"]
    return {
        "local": local["strict"]["all"]["f1"],
        "linked": linked["strict"]["all"]["f1"],
        "gain": one["gain"]["difference"],
        "asked": one["num_routed"] / max(1, one["num_candidates"]),
        "local, seen": local["seen"].get("seen", {}).get("f1"),
        "local, unseen": local["seen"].get("unseen", {}).get("f1"),
        "candidate_recall": candidates["candidate_recall"],
        "ECE": candidates["ece"],
        "Brier": candidates["brier"],
    }


def _by_share(study: Metrics, local: Metrics) -> Figures:
    figures: Figures = {}
    for system in study["systems"]:
        row = f"{system['answers']}, {system['estimate']}"
        for share, point in system["points"].items():
            figures[row, _percent(share)] = point["f1"]
        if system["at_dev"] is not None:
            figures[row, AT_DEV] = system["at_dev"]["f1"]
            figures[row, f"asked at {AT_DEV}"] = system["at_dev"]["asked_share"]
    for who, points in study["random"].items():
        for share, f1 in points.items():
            figures[f"random router, {who}", _percent(share)] = f1
    nobody = _percent("0")
    figures["local", nobody] = local["strict"]["all"]["f1"]
    for row, name in (("LLM decides all", "llm_alone_f1"), ("LLM extracts", "llm_extraction_f1")):
        if study[name] is not None:
            figures[row, _percent("1")] = study[name]
    return figures


def _percent(share: str) -> str:
    return f"{100 * float(share):g} %"


if __name__ == "__main__":
    main()
