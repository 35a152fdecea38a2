"""Writes the pages of docs/ that the code decides: `python -m docs.generate`, or `make fix`.

`tests/test_docs.py` holds that they are current.
"""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa
import typer
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click
from typer.main import get_command

from docs.error_texts import error_texts
from linkner_ray import schemas
from linkner_ray.cli.app import app
from linkner_ray.config import (
    Config,
    EvaluateConfig,
    ExtractConfig,
    LinkConfig,
    NightlyConfig,
    TrainConfig,
)

DOCS = Path(__file__).parent

NOTE = "<!-- Written by `make fix` out of {}; changes belong there. -->"

COMMANDS: Mapping[type[Config], str] = {
    TrainConfig: "train",
    ExtractConfig: "extract, estimate, preview",
    NightlyConfig: "nightly",
    EvaluateConfig: "evaluate",
    LinkConfig: "link",
}
"""Classes of configs with the commands that read them."""

TABLES: Mapping[str, tuple[str, str]] = {
    "OUTPUT": (
        "`entities/part-*.parquet`",
        "The result: one row a document that was read and is not in quarantine. With "
        "`output.keep_text` a column `text` follows, then those of `input.columns`.",
    ),
    "ENTITY": ("An item of `entities`", "Ordered by position; no two overlap."),
    "CANDIDATES_OUTPUT": (
        "`candidates/part-*.parquet`",
        "What led to the result, with `output.keep_candidates`: one row a document, in the order "
        "of `entities/`.",
    ),
    "SENTENCE": ("An item of `sentences`", "Offsets are of the document's text."),
    "CANDIDATE": ("An item of `candidates`", "A span that may be asked about."),
    "ANSWER": ("An item of `answers`", "Null where nothing was asked."),
    "QUARANTINE": (
        "`_quarantine/part-*.parquet`",
        "What could not be used, with its place and the reason.",
    ),
    "PREDICTIONS": (
        "A file in `predictions/` of an evaluation",
        "One row a sentence of the labelled set that it is named after.",
    ),
}
"""Tables of `schemas`: title, and a sentence about each."""

TYPES: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
}


def pages() -> dict[str, str]:
    """Every generated page by its path in docs/."""
    return {
        "reference/configuration.md": configuration(),
        "reference/commands.md": commands(),
        "reference/columns.md": columns(),
        "reference/errors.md": error_page(),
        "lab-log/README.md": lab_log(),
        "design/README.md": design_records(),
    }


def configuration() -> str:
    """Every key of every config: type, default and meaning, section by section."""
    sections: dict[tuple[str, type[Config]], list[str]] = {}
    for root, names in COMMANDS.items():
        for prefix, kind in _sections(root):
            sections.setdefault((prefix, kind), []).append(names)
    lines = [
        NOTE.format("the classes in `linkner_ray/config/`"),
        "# Configuration",
        "A config is a YAML file (`--config FILE`), overrides on the command line "
        "(`routing.threshold=0.3`), or both; an override wins. `${NAME}` and "
        "`${NAME:-default}` are environment variables. An unknown key is refused with the nearest "
        "known one. `--dry-run` prints the resolved config. Files to begin with are in "
        "`jobs/configs/`.",
        "*Decides* says what a key changes: the way from documents to entities has the steps "
        "`documents`, `sentences`, `encoder`, `calibration`, `routing` and `llm`. A run with "
        "another value in such a key is another run and needs another output; an incremental run "
        "redoes that step and the later ones. A key without a step changes no byte of an output.",
    ]
    for (prefix, kind), users in sorted(sections.items(), key=lambda one: one[0][0]):
        keys = list(_keys(kind, prefix))
        if not keys:
            continue
        title = f"`{prefix.rstrip('.')}`" if prefix else "Without a section"
        lines += [f"## {title} ({'; '.join(users)})", _first_paragraph(kind), _table(
            ("Key", "Type", "Default", "Decides", "Meaning"), keys
        )]  # fmt: skip
    return "\n\n".join(lines) + "\n"


def commands() -> str:
    """The help of every command, by typer's own generator."""
    command = get_command(app)
    context = typer.Context(command, info_name="linkner")
    text = get_docs_for_click(obj=command, ctx=context, name="linkner")
    text = text.replace("# `linkner`", "# Command line", 1)
    text = re.sub(r"^Example: (.*?)(?=\n\n)", _as_code, text, flags=re.MULTILINE | re.DOTALL)
    return f"{NOTE.format('`linkner --help`')}\n\n{text.rstrip()}\n"


def columns() -> str:
    """The columns of every table that a run leaves behind, with the comments beside them."""
    source = inspect.getsource(schemas)
    lines = [
        NOTE.format("`linkner_ray/schemas.py`"),
        "# Columns",
        f"Schema version {schemas.SCHEMA_VERSION}; it goes up with any change. Offsets are "
        "half-open positions of Unicode code points in the document's text, as in Python: "
        "`text[start:end] == entity.text`. Lists of probabilities have the class `O` (no entity) "
        "first, then the labels in the order of the label set.",
    ]
    for name, (title, sentence) in TABLES.items():
        comments = _comments(source, "STAGE_COLUMNS") | _comments(source, name)
        rows = [
            (
                f"`{field.name}`",
                _arrow_name(field.type),
                "yes" if field.nullable else "no",
                comments[field.name],
            )
            for field in getattr(schemas, name)
        ]
        lines += [f"## {title}", sentence, _table(("Column", "Type", "Null", "Meaning"), rows)]
    return "\n\n".join(lines) + "\n"


def error_page() -> str:
    """Every error text, with a link to what `troubleshooting.md` says of it."""
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    lines = [
        NOTE.format("the sources of the package"),
        "# Error texts",
        "Every error that a command or a call ends with; `...` stands for what is told in your "
        "case, so search for a few words of yours in a row. Each says what was found, where, and "
        "what to do; where there is more to say, the last column leads to it.",
    ]
    for part, texts in groupby(error_texts(), key=lambda one: one.part):
        rows = [
            (f"`` {one.text} ``", str(one.exit_code or ""), why(one.text, page)) for one in texts
        ]
        lines += [f"## {part}", _table(("Text", "Exit code", "More"), rows)]
    return "\n\n".join(lines) + "\n"


def why(text: str, page: str) -> str:
    """A link to the part of troubleshooting whose first cells have words of an error's text."""
    for part in page.split("\n## ")[1:]:
        cells = re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)
        quoted = (words for cell in cells for words in re.findall(r"`([^`]+)`", cell))
        if any(all(piece.strip() in text for piece in words.split("...")) for words in quoted):
            heading = part.partition("\n")[0]
            return f"[{heading}](../troubleshooting.md#{_anchor(heading)})"
    return ""


def lab_log() -> str:
    """Contents of the lab log: every entry, the newest first."""
    lines = [
        NOTE.format("the headings of the log"),
        "# Lab log",
        "What was tried, with the command, and what came out, failures too; a file a month, the "
        "newest entry on top. The figures that count today are on the page of "
        "[results](../results.md).",
    ]
    for page in sorted((DOCS / "lab-log").glob("2*.md"), reverse=True):
        entries = re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        lines += [f"## {page.stem}", "\n".join(
            f"- [{entry}]({page.name}#{_anchor(entry)})" for entry in entries
        )]  # fmt: skip
    return "\n\n".join(lines) + "\n"


def design_records() -> str:
    """Contents of the design records."""
    lines = [
        NOTE.format("their titles"),
        "# Design records",
        "One decision a page: what, why, and what was tried. "
        "[Why this library and not another](dependencies.md) has a line for each of them.",
    ]
    records = sorted((DOCS / "design").glob("2*.md"), reverse=True)
    rows = [f"- {page.stem[:10]}: [{_heading(page)}]({page.name})" for page in records]
    return "\n\n".join([*lines, "\n".join(rows)]) + "\n"


def _sections(kind: type[Config], prefix: str = "") -> Iterator[tuple[str, type[Config]]]:
    """A class and the classes of its sections, each with the prefix of its keys."""
    yield prefix, kind
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            yield from _sections(field.annotation, f"{prefix}{name}.")


def _keys(kind: type[Config], prefix: str) -> Iterator[tuple[str, ...]]:
    """A row for each key of a class that holds a value and no section."""
    meanings, steps = docstrings(kind), kind.steps_by_key()
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            continue
        default = "**required**" if field.is_required() else f"`{_shown(field.default)}`"
        yield (
            f"`{prefix}{name}`",
            type_name(field.annotation) + bounds(field),
            default,
            steps.get(name, ""),
            meanings.get(name, ""),
        )


def docstrings(kind: type[Config]) -> dict[str, str]:
    """The text below each key of a class."""
    found: dict[str, str] = {}
    for one in reversed([base for base in kind.__mro__ if issubclass(base, Config)]):
        body = ast.parse(inspect.getsource(one)).body[0].body  # type: ignore[attr-defined]
        for above, below in pairwise(body):
            match above, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = " ".join(text.split())
    return found


def type_name(annotation: Any) -> str:  # noqa: ANN401 - as pydantic has it
    """What may be written, in words."""
    if annotation in TYPES:
        return TYPES[annotation]
    parts = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Literal:
            return ", ".join(f"`{part}`" for part in parts)
        case origin if origin is tuple:
            return f"list of {type_name(parts[0])}"
        case origin if origin in (Union, UnionType):
            return " or ".join(
                type_name(part) for part in parts if part is not NoneType and part is not bool
            )
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return ", ".join(f"`{name}`" for name in annotation.model_fields)
    return str(annotation.__name__)


def bounds(field: FieldInfo) -> str:
    """What holds of a number, such as ` (at least 0, at most 1)`."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = [
        f"{word} {getattr(mark, name):,}"
        for mark in field.metadata
        for name, word in words.items()
        if hasattr(mark, name)
    ]
    return f" ({', '.join(found)})" if found else ""


def _shown(default: object) -> str:
    match default:
        case None:
            return "none"
        case bool():
            return str(default).lower()
        case tuple():
            return f"[{', '.join(map(_shown, default))}]"
        case str():
            return default or '""'
        case float():
            return f"{default:g}"
    return str(default)


def _comments(source: str, name: str) -> dict[str, str]:
    """The comment beside, or above, each field of a table in the source of `schemas`."""
    body = re.search(rf"^{name}\b[^=]*= (.*?)^[\])}}]", source, re.MULTILINE | re.DOTALL)
    found: dict[str, str] = {}
    above: list[str] = []
    for line in body[1].splitlines() if body else ():
        code, _, comment = line.partition("  # " if line.strip()[:1] != "#" else "# ")
        field = re.match(r'\s*(?:pa\.field)?\(?"(\w+)"[,:] ', code)
        if field is None:
            above.append(comment)
        else:
            found[field[1]] = " ".join([*above, comment]).strip()
            above = []
    return found


def _arrow_name(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        inside = "struct" if pa.types.is_struct(kind.value_type) else _arrow_name(kind.value_type)
        return f"list of {inside}"
    return str(kind)


def _first_paragraph(kind: type[Config]) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def _heading(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _as_code(match: re.Match[str]) -> str:
    return f"Example: `{' '.join(match[1].split())}`"


def _anchor(heading: str) -> str:
    """The name that a heading has in a link, on the site and in the repository alike."""
    words = re.sub(r"[^\w\s-]", "", heading.lower())
    return re.sub(r"\s", "-", words.strip())


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [list(head)]
    cells += [["---"] * len(cells[0]), *([one.replace("|", "\\|") for one in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


if __name__ == "__main__":
    for path, text in pages().items():
        (DOCS / path).write_text(text, encoding="utf-8")
