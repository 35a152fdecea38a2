"""Two evaluations of the same labelled sets, held against each other."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from linkner_ray.corpora.scores import Entity, document_counts
from linkner_ray.errors import ConfigError, DataError
from linkner_ray.evaluation.bootstrap import Interval, Resampler, f1_of
from linkner_ray.evaluation.judge import entity_triples
from linkner_ray.evaluation.plan import METRICS
from linkner_ray.reporting.tables import markdown_table, markdown_text
from linkner_ray.storage import Folder

SYSTEMS = {"local": "local", "linked": "entities"}
"""Column of the predictions of each system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Strict F1 of one system in both evaluations, on one set and for one label or "all"."""

    set_name: str
    system: str
    label: str
    num_gold: int
    first: float
    second: float
    gain: Interval
    """Bootstrap over documents, the same draws for both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two folders, their differences by set, system and label, and the sets of only one."""

    first: str
    second: str
    differences: tuple[Difference, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]


def compare_evaluations(first: str, second: str) -> Comparison:
    """Compare the predictions of two folders that `linkner evaluate` wrote.

    Raises:
        ConfigError: If a folder holds no whole evaluation, or they have no set in common.
        DataError: If a set is not the same in both.
    """
    folders = [Folder.at(path) for path in (first, second)]
    # Not the files there are: an earlier evaluation of other sets may have left some.
    names = [sorted(one["name"] for one in read_metrics(path)["sets"]) for path in (first, second)]
    common = [name for name in names[0] if name in names[1]]
    if not common:
        raise ConfigError(
            f"{first} has the sets {names[0]}, {second} has {names[1]}; they have none in common: "
            "evaluate both on one"
        )
    differences: list[Difference] = []
    for name in common:
        tables = [_read(folder, name) for folder in folders]
        _check_same(name, *tables)
        differences += _differences(name, *tables)
    return Comparison(
        first=first,
        second=second,
        differences=tuple(differences),
        only_first=tuple(name for name in names[0] if name not in common),
        only_second=tuple(name for name in names[1] if name not in common),
    )


def describe_comparison(found: Comparison) -> str:
    """The differences as a Markdown table, and what could not be compared."""
    rows = [
        {
            "set": markdown_text(one.set_name),
            "system": one.system,
            "label": "**all**" if one.label == "all" else markdown_text(one.label),
            "gold": f"{one.num_gold:,}",
            "A": f"{one.first:.4f}",
            "B": f"{one.second:.4f}",
            "B - A, points": f"{100 * one.gain.difference:+.2f}",
            "95 % interval": f"{100 * one.gain.low:+.2f} to {100 * one.gain.high:+.2f}",
            "": "inside its interval: may be chance" if one.gain.is_inside else "",
        }
        for one in found.differences
    ]
    lines = [f"A: {found.first}", f"B: {found.second}", "", markdown_table(rows)]
    for where, names in (("A", found.only_first), ("B", found.only_second)):
        if names:
            lines += ["", f"Only in {where}: {', '.join(names)}."]
    return "\n".join(lines)


def read_metrics(path: str) -> dict[str, Any]:
    """What a folder's `metrics.json` holds.

    Raises:
        ConfigError: If there is none, or the evaluation did not end.
    """
    folder = Folder.at(path)
    metrics: Any = None
    if folder.exists(METRICS):
        with suppress(ValueError):  # of another program, or damaged
            metrics = json.loads(folder.read_bytes(METRICS))
    if not isinstance(metrics, dict) or "sets" not in metrics:
        raise ConfigError(
            f"{path}: there is no {METRICS} with scores of sets; give a folder that `linkner "
            "evaluate` wrote to the end"
        )
    return metrics


def _read(folder: Folder, name: str) -> pa.Table:
    columns = ["doc_id", "text", "gold", *SYSTEMS.values()]
    file = f"predictions/{name}.parquet"
    where = folder.path(file)
    try:
        found = pq.ParquetFile(pa.BufferReader(folder.read_bytes(file)))
        missing = [column for column in columns if column not in found.schema_arrow.names]
        if missing:
            raise DataError(
                f"{where}: has no column {', '.join(missing)}; an earlier release wrote it, so "
                "evaluate again"
            )
        return found.read(columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{where}: cannot be read: {error}; evaluate again") from error


def _check_same(name: str, first: pa.Table, second: pa.Table) -> None:
    for column in ("doc_id", "text", "gold"):
        ours, theirs = first[column].to_pylist(), second[column].to_pylist()
        if ours == theirs:
            continue
        if len(ours) != len(theirs):
            what = f"{len(ours)} documents and {len(theirs)}"
        else:
            pairs = enumerate(zip(ours, theirs, strict=True))
            row, (one, other) = next(found for found in pairs if found[1][0] != found[1][1])
            what = f"{column} of document {row} is {str(one)[:80]!r} and {str(other)[:80]!r}"
        raise DataError(f"set '{name}' is not the same in both: {what}; evaluate both on one file")


def _differences(name: str, first: pa.Table, second: pa.Table) -> list[Difference]:
    gold = entity_triples(first["gold"])
    labels = sorted({label for row in gold for _, _, label in row})
    resampler = Resampler(len(gold))
    found = []
    for system, column in SYSTEMS.items():
        ours, theirs = entity_triples(first[column]), entity_triples(second[column])
        for label in ("all", *labels):
            golden, before, after = (_only(rows, label) for rows in (gold, ours, theirs))
            counts = document_counts(golden, before), document_counts(golden, after)
            found.append(
                Difference(
                    set_name=name,
                    system=system,
                    label=label,
                    num_gold=sum(map(len, golden)),
                    first=f1_of(counts[0]),
                    second=f1_of(counts[1]),
                    gain=resampler.difference(*counts),
                )
            )
    return found


def _only(rows: Sequence[set[Entity]], label: str) -> list[set[Entity]]:
    return [row if label == "all" else {e for e in row if e[2] == label} for row in rows]
