"""Corpora as the library `datasets` has them: rows with `tokens` and `ner_tags`.

They come as JSON lines, Parquet or Arrow, or as a folder of such files. Tags are strings, or
numbers whose names stand in the schema of Parquet and Arrow.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from linkner_ray.corpora.files import decode_text, read_bytes
from linkner_ray.corpora.labelled import DOCUMENT_MARKER, Corpus
from linkner_ray.corpora.tagged import TaggedToken, tagged_corpus
from linkner_ray.corpora.tags import parse_tag
from linkner_ray.errors import ConfigError, DataError
from linkner_ray.labels import LabelSet
from linkner_ray.storage import Folder

COLUMNS = ("tokens", "ner_tags")

_PARQUET, _ARROW_STREAM = b"PAR1", b"\xff\xff\xff\xff"

_NOT_AS_WRITTEN = (LookupError, RecursionError, TypeError, ValueError)
"""What reading JSON of another shape than `datasets` gives it may raise."""

Row = dict[str, Any]


def is_of_datasets(content: bytes) -> bool:
    """Whether a file is Parquet, Arrow, or begins with a line that is a JSON object."""
    first = content.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0].rstrip()
    is_object = first.startswith(b"{") and first.endswith(b"}")
    return is_object or content.startswith((_PARQUET, _ARROW_STREAM))


def folder_files(path: str) -> list[str]:
    """Files of a folder that `save_to_disk` wrote, or that holds the shards of one split.

    Raises:
        ConfigError: If it has no such files, or several splits.
        DataError: If a file that lists them is damaged.
    """
    folder = Folder.at(path)
    names = folder.entries()
    if "dataset_dict.json" in names:
        splits = _names_in(folder, "dataset_dict.json", lambda tree: tree["splits"])
        raise ConfigError(
            f"{path} holds the splits {', '.join(splits)}; name one: {path}/{splits[-1]}"
        )
    if "state.json" in names:
        found = _names_in(
            folder, "state.json", lambda tree: [file["filename"] for file in tree["_data_files"]]
        )
    else:
        found = [name for name in names if name.endswith((".parquet", ".arrow", ".jsonl"))]
    if not found:
        raise ConfigError(
            f"{path} is a folder without .parquet, .arrow or .jsonl files; name a corpus file, or "
            "the folder of one split"
        )
    splits = sorted({name.partition("-")[0].partition(".")[0] for name in found})
    if len(splits) > 1:
        raise ConfigError(f"{path} holds {', '.join(found)}; name one of these files")
    return [f"{path.rstrip('/')}/{name}" for name in found]


def _names_in(folder: Folder, file: str, find: Callable[[Any], Iterable[object]]) -> list[str]:
    """Names that a file of `datasets` lists; it may hold anything."""
    try:
        names = [str(name) for name in find(json.loads(folder.read_bytes(file)))]
    except _NOT_AS_WRITTEN:
        names = []
    if not names:
        raise DataError(
            f"{folder.path(file)} is not as `datasets` writes it; name a file of the corpus "
            "instead of the folder"
        )
    return names


def read_datasets(paths: list[str], path: str, *, label_set: LabelSet) -> Corpus:
    """Read the rows of some files as one corpus.

    Rows without a token, and `-DOCSTART-` rows, are passed over and counted.

    Raises:
        ConfigError: If there is no such file.
        DataError: Naming the row, for what cannot be read, other columns, tags that are numbers
            without names, or as many tags as there are no tokens; or for wrong tags.
    """
    rows = [row for file in paths for row in _rows(read_bytes(file), file)]
    sentences = []
    num_document_markers = num_empty_entries = 0
    for index, row in enumerate(rows):
        tokens = _read_row(row, f"{path}: row {index}", index)
        if not tokens:
            num_empty_entries += 1
        elif tokens[0].token == DOCUMENT_MARKER:
            num_document_markers += 1
        else:
            sentences.append(tokens)
    return tagged_corpus(
        sentences,
        path,
        format="hugging_face",
        label_set=label_set,
        where=lambda index: f"{path}: row {index}",
        num_document_markers=num_document_markers,
        num_empty_entries=num_empty_entries,
    )


def _rows(content: bytes, path: str) -> Iterator[Row]:
    if not content.startswith((_PARQUET, _ARROW_STREAM)):
        yield from _json_rows(content, path)
        return
    try:
        buffer = pa.BufferReader(content)
        is_parquet = content.startswith(_PARQUET)
        table = pq.read_table(buffer) if is_parquet else pa.ipc.open_stream(buffer).read_all()
    except (pa.ArrowException, OSError) as error:  # Arrow raises either for damaged bytes
        raise DataError(f"{path}: cannot be read: {error}; is the file whole?") from error
    _check_columns(table.column_names, path)
    names = _tag_names(table.schema)
    for row in table.select(COLUMNS).to_pylist():
        if names and isinstance(row["ner_tags"], list):
            row["ner_tags"] = [_tag_name(tag, names) for tag in row["ner_tags"]]
        yield row


def _json_rows(content: bytes, path: str) -> Iterator[Row]:
    for number, line in enumerate(decode_text(content, path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: JSON is broken: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected an object, found {line.strip():.80}")
        _check_columns(list(row), f"{path}:{number}")
        yield row


def _check_columns(found: list[str], where: str) -> None:
    if missing := [name for name in COLUMNS if name not in found]:
        raise DataError(
            f"{where}: expected rows with tokens and ner_tags, found {', '.join(found) or 'none'}; "
            f"rename or make {' and '.join(missing)}: a list of words, and a tag such as B-PER or "
            "O for each"
        )


def _tag_names(schema: pa.Schema) -> list[str]:
    """Names of numbered tags, as `datasets` writes them into a schema; none where it has none."""
    try:
        written = json.loads(schema.metadata[b"huggingface"])
        feature = written["info"]["features"]["ner_tags"]
        inner = feature[0] if isinstance(feature, list) else feature["feature"]
        return [str(name) for name in inner["names"]]
    except _NOT_AS_WRITTEN:
        return []


def _tag_name(tag: object, names: list[str]) -> object:
    return names[tag] if isinstance(tag, int) and 0 <= tag < len(names) else tag


def _read_row(row: Row, where: str, index: int) -> list[TaggedToken]:
    tokens, tags = row["tokens"], row["ner_tags"]
    if not isinstance(tokens, list) or not isinstance(tags, list) or len(tokens) != len(tags):
        raise DataError(
            f"{where}: expected a list of tokens and as many ner_tags, found {tokens!r:.80} and "
            f"{tags!r:.80}"
        )
    found = []
    for token, tag in zip(tokens, tags, strict=True):
        if not isinstance(token, str) or not token.strip():
            raise DataError(f"{where}: expected words, found {token!r:.80} among the tokens")
        if any("\ud800" <= character <= "\udfff" for character in token):
            raise DataError(
                f"{where}: a token has half of a surrogate pair: {token!a:.80}; mend it"
            )
        if not isinstance(tag, str):
            raise DataError(
                f"{where}: tag {tag!r} is a number without a name; write names such as B-PER, or "
                "give the folder or Parquet file whose schema has them"
            )
        try:
            found.append(TaggedToken(index, token, parse_tag(tag)))
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
    return found
