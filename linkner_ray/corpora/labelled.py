"""What a labelled corpus is, whatever file it came from."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

DOCUMENT_MARKER = "-DOCSTART-"
"""Stands where a document begins in CoNLL-2003 and its descendants; it is not a sentence."""

CorpusFormat = Literal["conll", "spanner_json", "hugging_face"]

TagScheme = Literal["iob1", "iob2", "iobes", "bilou"]


@dataclass(frozen=True, slots=True, order=True)
class LabelledSpan:
    """A gold entity as half-open token positions of its sentence."""

    start_token: int
    end_token: int
    label: str

    @property
    def width(self) -> int:
        """Number of tokens."""
        return self.end_token - self.start_token


@dataclass(frozen=True, slots=True)
class LabelledSentence:
    """Tokens and the gold entities among them, by position.

    Raises:
        ValueError: If there are no tokens, a span is empty or leaves the sentence, or spans are not
            in strictly ascending order of position.
    """

    tokens: tuple[str, ...]
    spans: tuple[LabelledSpan, ...] = ()

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError("a sentence needs at least one token")
        for span in self.spans:
            if not 0 <= span.start_token < span.end_token <= len(self.tokens):
                raise ValueError(f"{span} does not lie in a sentence of {len(self.tokens)} tokens")
        for left, right in pairwise(self.spans):
            if (left.start_token, left.end_token) >= (right.start_token, right.end_token):
                raise ValueError(f"{left} and {right} are not in ascending order of position")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A corpus file as it was read, with what was noticed on the way."""

    path: str
    format: CorpusFormat
    sentences: tuple[LabelledSentence, ...]

    scheme: TagScheme | None = None
    """How tags spell entities; None for a format without tags."""

    num_document_markers: int = 0
    """`-DOCSTART-` lines or entries passed over."""

    num_comments: int = 0
    """Lines that begin with `#` passed over before sentences."""

    num_empty_entries: int = 0
    """Entries without a token passed over."""

    opened_by_inside: int = 0
    """Entities that a tag for the inside or the last token opened although the scheme asks for an
    opening tag. They are kept."""

    left_open: int = 0
    """Entities of an IOBES or BILOU corpus that no tag for the last token closed. They are kept."""

    @property
    def digest(self) -> str:
        """Name of the content, tokens and gold entities, wherever the file lies."""
        digest = hashlib.blake2b(digest_size=8)
        for sentence in self.sentences:
            spans = [(span.start_token, span.end_token, span.label) for span in sentence.spans]
            digest.update(json.dumps([sentence.tokens, spans]).encode())
        return digest.hexdigest()

    @property
    def num_entities(self) -> int:
        """Gold entities in all sentences."""
        return sum(len(sentence.spans) for sentence in self.sentences)


def unreachable_spans(sentences: Iterable[LabelledSentence], max_width: int) -> int:
    """Count gold entities wider, in tokens, than any span the model looks at.

    They stay in gold, so every score counts them as missed.
    """
    return sum(span.width > max_width for sentence in sentences for span in sentence.spans)
