"""Every error text of the package, read from its source: `docs/reference/errors.md` lists them."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from linkner_ray import errors

PACKAGE = Path(errors.__file__).parent

PARTS: Mapping[str, tuple[str, ...]] = {
    "Command line": ("cli",),
    "Configuration": ("config",),
    "Labels and labelled corpora": ("labels.py", "corpora"),
    "Input": ("readers",),
    "Output of a run": ("runs", "storage"),
    "Running, exporting, showing": ("extract", "reporting", "schemas.py"),
    "Nights and comparing runs": ("nightly",),
    "Checkpoints and the local model": ("spanner",),
    "Training": ("training",),
    "The LLM, its answers and their cache": ("llm",),
    "Links and routing": ("linking", "stages"),
    "Evaluation": ("evaluation",),
    "From Python": ("api.py", "errors.py", "__init__.py"),
}
"""Headings of the page, with the modules and folders whose errors stand there."""

BUGS = "Bugs"
"""Heading of what no user should meet: `ContractError`."""

_GAP = "..."
_LEAST_WORDS = 3
"""Of ours in a text; one with less only passes on what somebody else said."""


@dataclass(frozen=True, slots=True, order=True)
class ErrorText:
    """A text with `...` for what is told in each case."""

    part: str
    text: str
    exit_code: int | None
    """None for a `ValueError` or `TypeError`, which Python users alone meet as it is."""


@cache
def error_texts() -> tuple[ErrorText, ...]:
    """All texts, each once, in the order of the page."""
    found: dict[ErrorText, None] = {}
    for part, modules in PARTS.items():
        paths = [path for name in modules for path in _modules(PACKAGE / name)]
        for path in paths:
            found |= dict.fromkeys(_texts_of(path, part))
    return tuple(sorted(found, key=lambda one: one.part == BUGS))


def _modules(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def _texts_of(path: Path, part: str) -> Iterator[ErrorText]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = ast.unparse(node.func)
        kind = getattr(errors, name, None)
        if kind is None and name not in ("ValueError", "TypeError"):
            continue
        code = getattr(kind, "exit_code", 2 if part == "Configuration" else None)
        heading = BUGS if kind is errors.ContractError else part
        for text in _templates(node.args[0], tree, seen=frozenset()):
            if len(re.findall(r"[a-z]{2,}", text)) >= _LEAST_WORDS:
                yield ErrorText(heading, text, code)


def _templates(node: ast.AST, tree: ast.Module, *, seen: frozenset[str]) -> Iterator[str]:
    """The texts that an expression may become; a function of the module or a variable too."""
    match node:
        case ast.Constant(value=str()) | ast.JoinedStr():
            yield re.sub(r"\s+", " ", _shown(node)).strip()
        case ast.IfExp(body=body, orelse=other):
            yield from _templates(body, tree, seen=seen)
            yield from _templates(other, tree, seen=seen)
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.List(elts=[first, *_])]):
            yield from _templates(first, tree, seen=seen)
        case ast.Call(func=ast.Name(id=name)) | ast.Name(id=name) | ast.Attribute(attr=name):
            if name not in seen:
                for value in _values(name, tree):
                    yield from _templates(value, tree, seen=seen | {name})


def _values(name: str, tree: ast.Module) -> Iterator[ast.expr]:
    """What a function of a module returns, or what is assigned to a name or an attribute."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=found) if found == name:
                returns = (one for one in ast.walk(node) if isinstance(one, ast.Return))
                yield from (one.value for one in returns if one.value is not None)
            case ast.Assign(targets=[ast.Name(id=found) | ast.Attribute(attr=found)], value=value):
                if found == name:
                    yield value


def _shown(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(map(_shown, values))
    return _GAP
