"""Labelled sentences as tables: for training, and as documents for the stages."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

from linkner_ray.corpora.labelled import LabelledSentence, LabelledSpan
from linkner_ray.schemas import DOCUMENTS, STAGE_COLUMNS

LABELLED_SENTENCES = pa.schema(
    [
        pa.field("tokens", pa.list_(pa.string()), nullable=False),
        pa.field(
            "spans",
            pa.list_(
                pa.struct(
                    [
                        ("start_token", pa.int32()),
                        ("end_token", pa.int32()),
                        ("label", pa.string()),
                    ]
                )
            ),
            nullable=False,
        ),
    ]
)
"""A corpus as training reads it; a row is a sentence, positions are half-open tokens."""


class GoldEntity(NamedTuple):
    """A gold entity of a document, as half-open code points of its text."""

    start: int
    end: int
    label: str


def corpus_table(sentences: Iterable[LabelledSentence]) -> pa.Table:
    """Labelled sentences as a table of schema `LABELLED_SENTENCES`."""
    sentences = tuple(sentences)
    spans = [
        [(span.start_token, span.end_token, span.label) for span in sentence.spans]
        for sentence in sentences
    ]
    columns = {"tokens": [sentence.tokens for sentence in sentences], "spans": spans}
    return pa.table(columns, schema=LABELLED_SENTENCES)


def table_sentences(table: pa.Table) -> list[LabelledSentence]:
    """Labelled sentences of a table or batch; the reverse of `corpus_table`."""
    return [
        LabelledSentence(tuple(tokens), tuple(LabelledSpan(**span) for span in spans))
        for tokens, spans in zip(
            table.column("tokens").to_pylist(), table.column("spans").to_pylist(), strict=True
        )
    ]


def corpus_documents(
    sentences: Sequence[LabelledSentence], ids_prefix: str
) -> tuple[pa.Table, list[list[GoldEntity]]]:
    """Labelled sentences as documents for the stages, with gold kept apart from them.

    Each sentence is a document of one sentence: its tokens with a space between them. The column
    `sentences` carries the tokens of the corpus, so no segmenter divides them anew.

    Args:
        sentences: Sentences of a corpus.
        ids_prefix: What document ids begin with; the index of the sentence follows.

    Returns:
        A table with the columns of `schemas.DOCUMENTS` and `sentences`, and the gold entities of
        each row by position.
    """
    texts, token_lists, gold = [], [], []
    for sentence in sentences:
        texts.append(" ".join(sentence.tokens))
        offsets = _token_offsets(sentence.tokens)
        token_lists.append(offsets)
        gold.append(
            [
                GoldEntity(offsets[span.start_token][0], offsets[span.end_token - 1][1], span.label)
                for span in sentence.spans
            ]
        )
    columns = {
        "doc_id": [f"{ids_prefix}-{index:06d}" for index in range(len(texts))],
        "url": [None] * len(texts),
        "lang": [None] * len(texts),
        "text": texts,
        "sentences": [
            [(0, len(text), tokens)] for text, tokens in zip(texts, token_lists, strict=True)
        ],
    }
    schema = DOCUMENTS.append(pa.field("sentences", STAGE_COLUMNS["sentences"]))
    return pa.table(columns, schema=schema), gold


def _token_offsets(tokens: Sequence[str]) -> list[tuple[int, int]]:
    """Half-open code points of each token in the text that joins them with a space."""
    offsets = []
    start = 0
    for token in tokens:
        offsets.append((start, start + len(token)))
        start += len(token) + 1
    return offsets
