"""Tag schemes: which entities one tag for each token spells."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from linkner_ray.corpora.labelled import LabelledSpan, TagScheme

PREFIXES: dict[TagScheme, str] = {"iob1": "BI", "iob2": "BI", "iobes": "BIES", "bilou": "BILU"}
"""Prefixes that each scheme knows; "O" stands alone in all of them."""

_INSIDE = "IEL"
_LAST = "ESLU"


class Tag(NamedTuple):
    """A tag taken apart: `B-PER` is ("B", "PER"), `O` is ("O", "")."""

    prefix: str
    label: str

    def __str__(self) -> str:
        return f"{self.prefix}-{self.label}" if self.label else self.prefix


OUTSIDE = Tag("O", "")


@dataclass(frozen=True, slots=True)
class DecodedTags:
    """The entities of one sentence, and where its tags broke their scheme."""

    spans: tuple[LabelledSpan, ...]
    opened_by_inside: int
    left_open: int


def parse_tag(text: str) -> Tag:
    """Take a tag apart.

    Raises:
        ValueError: If it is neither `O` nor a known prefix, a hyphen and a label.
    """
    if text == "O":
        return OUTSIDE
    prefix, _, label = text.partition("-")
    if not label or len(prefix) != 1 or prefix not in "BIESLU":
        raise ValueError(
            f"tag {text!r:.80} is neither O nor one of B- I- E- S- L- U- followed by a label"
        )
    return Tag(prefix, label)


def find_scheme(sentences: Iterable[Sequence[Tag]]) -> TagScheme:
    """Find the tag scheme from the tags of a whole corpus.

    E- or S- anywhere means IOBES, L- or U- means BILOU. Where only B- and I- occur, IOB1 is told
    by its use of B-: only for an entity right after another of the same label, so a corpus that has
    entities and no other B- is IOB1. All else, also a corpus without entities, is IOB2. The choice
    between those two decides which tags count as irregular, never which entities are read.
    """
    prefixes: set[str] = set()
    begins = opens_inside = False
    for tags in sentences:
        prefixes.update(tag.prefix for tag in tags)
        for left, right in pairwise((OUTSIDE, *tags)):
            if right.prefix != "O" and left.label != right.label:
                begins = begins or right.prefix == "B"
                opens_inside = opens_inside or right.prefix == "I"
    if prefixes & set("ES"):
        return "iobes"
    if prefixes & set("LU"):
        return "bilou"
    return "iob1" if opens_inside and not begins else "iob2"


def decode_tags(tags: Sequence[Tag], *, scheme: TagScheme) -> DecodedTags:
    """Read the entities that tags spell.

    A tag for the inside or the last token that has no open entity of its label before it opens one.
    Under any scheme but IOB1 this is irregular and counted, as is an entity that ends without the
    closing tag of IOBES or BILOU. Nothing is dropped.
    """
    spans: list[LabelledSpan] = []
    opened_by_inside = left_open = start = 0
    open_label = ""
    for position, tag in enumerate((*tags, OUTSIDE)):
        inside = tag.prefix in _INSIDE
        if not (inside and tag.label == open_label):
            if open_label:
                spans.append(LabelledSpan(start, position, open_label))
                left_open += 1
            start, open_label = position, tag.label
            opened_by_inside += inside
        if tag.prefix in _LAST:
            spans.append(LabelledSpan(start, position + 1, open_label))
            open_label = ""
    marks_last = scheme in {"iobes", "bilou"}
    return DecodedTags(
        spans=tuple(spans),
        opened_by_inside=0 if scheme == "iob1" else opened_by_inside,
        left_open=left_open if marks_last else 0,
    )
