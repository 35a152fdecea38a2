"""Reading a labelled corpus, whichever of the known formats it has."""

import logging
import re
from pathlib import Path
from typing import Literal

from linkner_ray.corpora.conll import parse_conll
from linkner_ray.corpora.files import read_bytes
from linkner_ray.corpora.foreign import refuse_foreign
from linkner_ray.corpora.hugging_face import folder_files, is_of_datasets, read_datasets
from linkner_ray.corpora.labelled import Corpus, CorpusFormat
from linkner_ray.corpora.spanner_json import parse_spanner_json
from linkner_ray.errors import DataError, counted
from linkner_ray.labels import LabelSet
from linkner_ray.storage import Folder

logger = logging.getLogger(__name__)

_NOTICED = (
    ("num_document_markers", "document marker", "passed over"),
    ("num_comments", "comment line", "passed over"),
    ("num_empty_entries", "entry", "without a token, passed over"),
    ("opened_by_inside", "entity", "opened by a tag for its inside"),
    ("left_open", "entity", "without a tag for its last token"),
)
"""Counts of a corpus that say how it differs from its format."""

_JSON_LIST = re.compile(rb"(\xef\xbb\xbf)?\s*\[\s*(\{|\]|$)")


def read_corpus(
    path: str | Path,
    *,
    label_set: LabelSet,
    format: CorpusFormat | Literal["auto"] = "auto",  # noqa: A002 - as in config
) -> Corpus:
    """Read a labelled corpus.

    Args:
        path: Local path or URL such as `s3://bucket/train.conll`; a name that ends in .gz and the
            like is decompressed. A folder is one of `datasets`.
        label_set: Labels the corpus may use.
        format: `conll` for columns, `spanner_json` for the JSON of SpanNER, `hugging_face` for rows
            with tokens and ner_tags; `auto` looks at how the file begins, never at its name.

    Returns:
        The sentences in the order of the file, at least one.

    Raises:
        ConfigError: If there is no such file.
        DataError: If the file is not a corpus of that format, holds no sentence, or uses a label
            that the label set lacks; naming the line or the entry.
    """
    path = str(path)
    if Folder.at(path).is_folder():
        found: CorpusFormat = "hugging_face"
        files = folder_files(path)
    else:
        content, files = read_bytes(path), [path]
        if format == "auto":
            refuse_foreign(content, path)
        found = find_format(content) if format == "auto" else format
    if found == "hugging_face":
        corpus = read_datasets(files, path, label_set=label_set)
    elif found == "spanner_json":
        corpus = parse_spanner_json(content, path, label_set=label_set)
    else:
        corpus = parse_conll(content, path, label_set=label_set)
    if not corpus.sentences:
        raise DataError(
            f"{path}: the corpus holds no sentence; format {found} was read, is this the file?"
        )
    noticed = [
        f"{counted(count, noun)} {what}"
        for name, noun, what in _NOTICED
        if (count := getattr(corpus, name))
    ]
    if noticed:
        logger.info("%s: %s", path, ", ".join(noticed))
    return corpus


def find_format(content: bytes) -> CorpusFormat:
    """Tell the formats apart: a JSON list of objects, rows of `datasets`, or else columns."""
    if _JSON_LIST.match(content):
        return "spanner_json"
    return "hugging_face" if is_of_datasets(content) else "conll"
