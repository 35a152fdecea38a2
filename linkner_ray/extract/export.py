"""`linkner export`: the entities of a run as one file for other programs."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from linkner_ray.errors import ConfigError
from linkner_ray.logs.progress import track
from linkner_ray.runs.finished import FinishedRun, read_part
from linkner_ray.schemas import ENTITY, OUTPUT, join_tables
from linkner_ray.storage import Folder

_OF_DOCUMENT = ("doc_id", "url", "lang")

FLAT = pa.schema([*(OUTPUT.field(name) for name in _OF_DOCUMENT), *ENTITY])
"""A row an entity; `text`, `start` and `end` are the entity's."""

_FORMULA = r"^[=+\-@\t\r]"
"""How a cell of CSV begins that spreadsheets compute."""

ROWS_AT_ONCE = 65_536
"""Held in memory, and rows of a row group of Parquet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    documents: int
    entities: int
    formulas: int
    """Cells of CSV that a spreadsheet takes for formulas; they are written as they are."""


def export_entities(output: str, target: str, *, flat: bool) -> Exported:
    """Write the entities of a finished run into one file, in the order of its part files.

    Args:
        output: Folder of the run, local or with a scheme.
        target: File to write, local or with a scheme; its suffix chooses the format.
        flat: Whether a row is an entity; else it is a document, as in `entities/`.

    Raises:
        ConfigError: If there is no finished run, the file is there already, or the format is
            unknown or cannot hold documents.
        DataError: If a file of the run is missing or damaged.
    """
    suffix = PurePosixPath(target).suffix
    if suffix not in (".parquet", ".jsonl", ".csv"):
        raise ConfigError(f"{target}: the name must end in .parquet, .jsonl or .csv")
    if suffix == ".csv" and not flat:
        raise ConfigError(
            f"{target}: a line of CSV cannot hold a document's list of entities; add --flat, or "
            "write .jsonl or .parquet"
        )
    run = FinishedRun.open(output)
    parent, _, name = target.rpartition("/")
    folder = Folder.at(parent or ("/" if target.startswith("/") else "."))
    folder.check_writable()
    if name in folder.entries():
        raise ConfigError(f"{target}: is there already; choose another name, or move it away")
    schema = FLAT
    if not flat:
        schema = OUTPUT.append(pa.field("text", pa.string())) if run.keeps_text else OUTPUT
    columns = [*_OF_DOCUMENT, "entities"] if flat else schema.names
    counts = {"documents": 0, "entities": 0, "formulas": 0}

    def tables() -> Iterator[pa.Table]:
        source = Folder.at(run.url)
        for part in track(run.parts, "files", len(run.parts)):
            rows = read_part(source, f"entities/{part}", columns)
            counts["documents"] += rows.num_rows
            counts["entities"] += pc.sum(pc.list_value_length(rows["entities"])).as_py() or 0
            table = (_flatten(rows) if flat else rows).cast(schema)
            if suffix == ".csv":
                counts["formulas"] += _num_formulas(table)
            yield table

    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch) / name
        _write(join_tables(tables(), ROWS_AT_ONCE), written, schema)
        folder.upload(written, name)
    return Exported(**counts)


def _flatten(rows: pa.Table) -> pa.Table:
    entities = rows["entities"].combine_chunks()
    parents = pc.list_parent_indices(entities)
    flat = pc.list_flatten(entities)
    columns = {name: rows[name].take(parents) for name in _OF_DOCUMENT}
    columns |= {field.name: pc.struct_field(flat, field.name) for field in ENTITY}
    return pa.table(columns)


def _num_formulas(table: pa.Table) -> int:
    texts = (column for column in table.columns if pa.types.is_string(column.type))
    found = (pc.sum(pc.match_substring_regex(text, _FORMULA)).as_py() or 0 for text in texts)
    return sum(found)


def _write(tables: Iterable[pa.Table], path: Path, schema: pa.Schema) -> None:
    match path.suffix:
        case ".parquet":
            with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
                for table in tables:
                    parquet.write_table(table)
        case ".csv":
            with pyarrow.csv.CSVWriter(path, schema) as lines:
                for table in tables:
                    lines.write_table(table)
        case _:
            with path.open("w", encoding="utf-8") as file:
                for table in tables:
                    for row in table.to_pylist():
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
