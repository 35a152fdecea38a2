"""Labelled corpora of other tools: told by their name, with what to do."""

import json

from linkner_ray.errors import DataError

_FORMATS = (
    ({"tokenized_text", "ner"}, "the JSON of GLiNER"),
    ({"text", "label"}, "JSON with positions of characters, as doccano writes it"),
    ({"text", "labels"}, "JSON with positions of characters, as doccano writes it"),
    ({"text", "entities"}, "JSON with positions of characters, as spaCy has it"),
    ({"text", "spans"}, "JSON with positions of characters, as Prodigy writes it"),
)
"""Keys of an entry, and what the file is."""

_HEAD_BYTES = 2**20


def refuse_foreign(content: bytes, path: str) -> None:
    """Refuse JSON that is neither SpanNER's nor rows of `datasets`.

    Raises:
        DataError: If the first entry is an object without the keys of either.
    """
    head = content[:_HEAD_BYTES].decode("utf-8-sig", errors="replace").lstrip().lstrip("[").lstrip()
    if not head.startswith("{"):
        return
    try:
        entry, _ = json.JSONDecoder().raw_decode(head)
    except (ValueError, RecursionError):  # no JSON, or an entry that is longer than the head
        return
    if not entry or "context" in entry or {"tokens", "ner_tags"} <= entry.keys():
        return
    keys = ", ".join(f"'{key}'" for key in entry)
    found = next((name for needed, name in _FORMATS if needed <= entry.keys()), "JSON")
    raise DataError(
        f"{path}: is {found} (keys {keys:.120}), which is not read; convert it into a line of "
        "token, tab and tag for each word and an empty line after each sentence: "
        "the documentation has the lines of Python, under Troubleshooting, Labelled corpora"
    )
