"""Corpora in the JSON of SpanNER: for each sentence its words and a label for each gold span.

    [{"context": "Rain in New York", "span_posLabel": {"2;3": "LOC"}}, ...]

The numbers are token positions and **the second is the last token itself**; half-open positions are
made here and nowhere else.
"""

import json
import re

from linkner_ray.corpora.files import decode_text
from linkner_ray.corpora.labelled import (
    DOCUMENT_MARKER,
    Corpus,
    LabelledSentence,
    LabelledSpan,
)
from linkner_ray.errors import DataError
from linkner_ray.labels import LabelSet

_POSITIONS = re.compile(r"([0-9]{1,9});([0-9]{1,9})")


def parse_spanner_json(content: bytes, path: str, *, label_set: LabelSet) -> Corpus:
    """Read a corpus in the JSON of SpanNER.

    Tokens are `context.split()`. Entries that begin with `-DOCSTART-` and entries without a token
    are passed over and counted. Other keys of an entry are ignored.

    Raises:
        DataError: Naming the index of the entry, for broken JSON, a key given twice, a missing or
            wrong value, a span that leaves the sentence, or a label that the label set lacks.
    """
    sentences = []
    num_document_markers = num_empty_entries = 0
    for index, entry in enumerate(_load_entries(decode_text(content, path), path)):
        where = f"{path}: entry {index}"
        tokens, labels = _read_entry(entry, where)
        if tokens[:1] == (DOCUMENT_MARKER,):
            num_document_markers += 1
        elif not tokens and not labels:
            num_empty_entries += 1
        else:
            spans = _read_spans(labels, where, num_tokens=len(tokens), label_set=label_set)
            sentences.append(LabelledSentence(tokens, spans))
    return Corpus(
        path=path,
        format="spanner_json",
        sentences=tuple(sentences),
        num_document_markers=num_document_markers,
        num_empty_entries=num_empty_entries,
    )


def distinct_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object, for `json.loads(..., object_pairs_hook=...)`, which takes the last of two.

    Raises:
        ValueError: If a key is given twice.
    """
    mapping: dict[str, object] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"key {key!r} is given twice")
        mapping[key] = value
    return mapping


def _load_entries(text: str, path: str) -> list[object]:
    complete = 0

    def distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal complete
        mapping = distinct_keys(pairs)
        complete += "context" in mapping
        return mapping

    try:
        entries = json.loads(text, object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: entry {complete}: JSON is broken: {error}") from error
    if not isinstance(entries, list):
        raise DataError(
            f"{path}: expected a list of entries with context and span_posLabel, found a "
            f"{type(entries).__name__}"
        )
    return entries


def _read_entry(entry: object, where: str) -> tuple[tuple[str, ...], dict[str, object]]:
    """Tokens of an entry, and its labels by the positions as they stand in the file."""
    if not isinstance(entry, dict):
        raise DataError(f"{where}: expected an object, found a {type(entry).__name__}")
    context, labels = entry.get("context"), entry.get("span_posLabel")
    if not isinstance(context, str):
        raise DataError(f"{where}: 'context' must be a string, found {context!r:.80}")
    if not isinstance(labels, dict):
        raise DataError(f"{where}: 'span_posLabel' must be an object, found {labels!r:.80}")
    if any("\ud800" <= character <= "\udfff" for character in context):
        raise DataError(
            f"{where}: 'context' has half of a surrogate pair, which is no character; mend it"
        )
    return tuple(context.split()), labels


def _read_spans(
    labels: dict[str, object], where: str, *, num_tokens: int, label_set: LabelSet
) -> tuple[LabelledSpan, ...]:
    spans: dict[tuple[int, int], LabelledSpan] = {}
    for key, label in labels.items():
        positions = _POSITIONS.fullmatch(key)
        if positions is None:
            raise DataError(
                f"{where}: span {key!r} must be the first and the last token position, as in '2;3'"
            )
        first, last = int(positions[1]), int(positions[2])
        if not first <= last < num_tokens:
            raise DataError(
                f"{where}: span '{key}' does not lie in a sentence of {num_tokens} tokens; the "
                "second position is that of the last token"
            )
        if not isinstance(label, str) or label not in label_set.ids:
            raise DataError(
                f"{where}: label {label!r} of span '{key}' is not in label set "
                f"'{label_set.name}'; known: {', '.join(label_set.ids)}; add it there, "
                "or rename it here"
            )
        if (first, last) in spans:
            raise DataError(f"{where}: span '{key}' is given twice; keep one")
        spans[first, last] = LabelledSpan(first, last + 1, label)
    return tuple(sorted(spans.values()))
