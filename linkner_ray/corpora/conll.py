"""Corpora in CoNLL columns: a token and a tag on each line, a blank line after each sentence."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import dropwhile
from typing import Literal, NamedTuple

from linkner_ray.corpora.files import decode_text
from linkner_ray.corpora.labelled import DOCUMENT_MARKER, Corpus
from linkner_ray.corpora.tagged import TaggedToken, tagged_corpus
from linkner_ray.corpora.tags import parse_tag
from linkner_ray.errors import DataError
from linkner_ray.labels import LabelSet

_EDGE = " \t\r"
"""What may trail a line; other white space can be a token."""

_LONGEST_QUOTE = 80

_TAG_LIKE = re.compile("[BIESLUO]([-_].*)?")
"""A tag, or what was meant to be one."""


class _Line(NamedTuple):
    """A line that holds a token, as text."""

    number: int
    text: str


class _Columns(NamedTuple):
    """How the lines of a file are divided."""

    separator: Literal["tab", "space"]
    num_columns: int


def parse_conll(content: bytes, path: str, *, label_set: LabelSet) -> Corpus:
    """Read a corpus in columns.

    The first column is the token, the last the tag. Columns are separated by tabs if the first line
    with a token has one, else by runs of spaces, and every line has as many as that line. Blank
    lines, lines of white space and `-DOCSTART-` lines end a sentence. Lines before a sentence that
    begin with `#`, as in CoNLL-U and MultiCoNER, are comments, unless they end in a tag.

    Raises:
        DataError: Naming `path:line`, for bytes that are not UTF-8, a wrong number of columns, an
            empty token, a malformed tag, a tag that the scheme of the others lacks, or a label that
            the label set lacks.
    """
    blocks, num_document_markers = _sentence_lines(decode_text(content, path))
    sentences = list(_tagged_sentences(blocks, path))
    return tagged_corpus(
        sentences,
        path,
        format="conll",
        label_set=label_set,
        where=lambda line: f"{path}:{line}",
        num_document_markers=num_document_markers,
        num_comments=sum(map(len, blocks)) - sum(map(len, sentences)),
    )


def _sentence_lines(text: str) -> tuple[list[list[_Line]], int]:
    """Lines of each sentence, and the number of document markers between them."""
    blocks: list[list[_Line]] = [[]]
    num_document_markers = 0
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split(maxsplit=1)
        if words and words[0] != DOCUMENT_MARKER:
            blocks[-1].append(_Line(number, line))
            continue
        num_document_markers += bool(words)
        if blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block], num_document_markers


def _tagged_sentences(blocks: Sequence[list[_Line]], path: str) -> Iterator[list[TaggedToken]]:
    lines = [line for block in blocks for line in block]
    if not lines:
        return
    first = next((line for line in lines if not line.text.startswith("#")), lines[0])
    columns = _find_columns(first, path)
    for block in blocks:
        tokens = dropwhile(partial(_is_comment, columns=columns), block)
        rows = [_read_line(line, path, columns=columns) for line in tokens]
        if rows:
            yield rows


def _is_comment(line: _Line, columns: _Columns) -> bool:
    """Whether a line before a sentence is no token; a token `#` with a broken tag is one."""
    if not line.text.startswith("#"):
        return False
    found = _split(line.text, separator=columns.separator)
    if columns.separator == "tab" and found[0] == "#":
        return False
    return len(found) != columns.num_columns or not _TAG_LIKE.fullmatch(found[-1])


def _find_columns(first: _Line, path: str) -> _Columns:
    separator: Literal["tab", "space"] = "tab" if "\t" in first.text.rstrip(_EDGE) else "space"
    num_columns = len(_split(first.text, separator=separator))
    if num_columns < 2:
        raise DataError(
            f"{path}:{first.number}: expected a token and a tag with a tab or spaces between them, "
            f"found {_quote(first.text)}; is this a corpus in columns?"
        )
    return _Columns(separator, num_columns)


def _read_line(line: _Line, path: str, *, columns: _Columns) -> TaggedToken:
    where = f"{path}:{line.number}"
    found = _split(line.text, separator=columns.separator)
    if len(found) != columns.num_columns:
        raise DataError(
            f"{where}: expected {columns.num_columns} columns separated by {columns.separator}, as "
            f"in the lines before, found {len(found)} in {_quote(line.text)}; a token with a space "
            "in it needs tabs between columns"
        )
    token = found[0]
    if not token:
        raise DataError(f"{where}: the token is empty in {_quote(line.text)}; write one")
    try:
        return TaggedToken(line.number, token, parse_tag(found[-1]))
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


def _split(line: str, *, separator: Literal["tab", "space"]) -> list[str]:
    """Columns of a line; a token may hold spaces where tabs separate."""
    if separator == "tab":
        return [column.strip(" ") for column in line.rstrip(_EDGE).split("\t")]
    return re.split(" +", line.strip(_EDGE))


def _quote(line: str) -> str:
    text = line.strip("\r")
    return repr(text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}...")
