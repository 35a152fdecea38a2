"""What a command leaves for its caller: standard output, and files beside its output.

A person gets text; with `--json` a program gets one JSON object in a file or, with `-`, on standard
output, and what is said besides goes to standard error.
"""

import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from linkner_ray.errors import ConfigError
from linkner_ray.logs import QUIET

STDOUT = "-"
"""In place of a file: standard output."""

MARKS = (b'"format": "linkner-', b'<meta name="generator" content="LinkNER on Ray">')
"""Near the beginning of each JSON file and page that a command writes."""

_MARKED_BYTES = 1024


class _Elsewhere(io.TextIOBase):
    """Takes what is printed while standard output is for JSON, or nothing is to be said."""

    def __init__(self, stdout: TextIO) -> None:
        self.stdout = stdout

    def write(self, text: str, /) -> int:
        if not QUIET.is_set():
            sys.stderr.write(text)
        return len(text)


@contextmanager
def kept_output() -> Iterator[None]:
    """After it, standard output is as before, whatever `set_output` did."""
    before = sys.stdout
    try:
        yield
    finally:
        QUIET.clear()
        found, sys.stdout = sys.stdout, before
        if isinstance(found, _Elsewhere) and found.stdout is not before:
            os.dup2(found.stdout.fileno(), 1)
            found.stdout.close()


def set_output(*, quiet: bool = False, json_file: str | None = None) -> None:
    """Say what a command may print; to be called before anything else.

    Args:
        quiet: Whether only errors and warnings are wanted.
        json_file: Where the result goes as JSON.

    Raises:
        ConfigError: If that is a file that cannot be written, or is not ours.
    """
    if quiet:
        QUIET.set()
    if json_file != STDOUT:
        check_replaceable(json_file)
    if quiet or json_file == STDOUT:
        stdout: TextIO = sys.stdout
        if stdout is sys.__stdout__:  # what engines write past Python goes elsewhere, too
            sys.stdout.flush()
            stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
            os.dup2(2, 1)
        sys.stdout = _Elsewhere(stdout)


def check_writable(*paths: str | None) -> None:
    """Check that files can be written; those that are None were not asked for.

    Raises:
        ConfigError: If one has no folder, is a folder, or may not be written.
    """
    for path in paths:
        if path is None:
            continue
        folder = Path(path).parent
        if Path(path).is_dir():
            raise ConfigError(f"{path}: is a folder; name a file in it")
        if not folder.is_dir():
            raise ConfigError(f"{path}: there is no folder {folder}; make it, or correct the path")
        target = Path(path) if Path(path).exists() else folder
        if not os.access(target, os.W_OK):
            raise ConfigError(
                f"{path}: {target} may not be written by this user; mend its rights, or name "
                "another"
            )


def check_replaceable(*paths: str | None) -> None:
    """Check that files can be written, and that nothing is lost but what a command wrote.

    Raises:
        ConfigError: As `check_writable`, or if there is a file without one of `MARKS`.
    """
    check_writable(*paths)
    for path in paths:
        if path is None or not Path(path).is_file():  # a pipe or a device keeps nothing
            continue
        with Path(path).open("rb") as file:
            begin = file.read(_MARKED_BYTES)
        if begin and not any(mark in begin for mark in MARKS):
            raise ConfigError(
                f"{path}: is there already, and no command of linkner wrote it; choose another "
                "name, or move it away"
            )


def write_text(path: str | None, text: str) -> None:
    """Write a file, if it was asked for; characters that have no UTF-8 are escaped."""
    if path is not None:
        Path(path).write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | None, kind: str, tree: Mapping[str, Any]) -> None:
    """Write a result as JSON, if it was asked for.

    Args:
        path: As `--json` has it.
        kind: What it is of; `format` says so.
        tree: The result.
    """
    with _json_stream(path) as stream:
        stream.write(json.dumps({"format": f"linkner-{kind}", **tree}, indent=2) + "\n")


def write_json_rows(path: str | None, kind: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write many rows as `write_json` writes a tree that has them under `kind`, none kept."""
    with _json_stream(path) as stream:
        stream.write(f'{{"format": "linkner-{kind}", "{kind}": [')
        for number, row in enumerate(rows):
            stream.write(f"{',' if number else ''}\n{json.dumps(row)}")
        stream.write("\n]}\n")


@contextmanager
def _json_stream(path: str | None) -> Iterator[TextIO]:
    """Where JSON goes; it is ASCII, so nothing in it acts on a terminal."""
    if path is None:
        yield io.StringIO()
    elif path != STDOUT:
        with Path(path).open("w", encoding="ascii") as file:
            yield file
    elif isinstance(sys.stdout, _Elsewhere):
        yield sys.stdout.stdout
        sys.stdout.stdout.flush()
