"""Tagged tokens as a corpus, whatever file they came from."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from linkner_ray.corpora.labelled import Corpus, CorpusFormat, LabelledSentence
from linkner_ray.corpora.tags import PREFIXES, Tag, decode_tags, find_scheme
from linkner_ray.errors import DataError
from linkner_ray.labels import LabelSet


class TaggedToken(NamedTuple):
    """A token with its tag.

    Attributes:
        place: Number of the line or row, for messages.
        token: Its text.
        tag: Taken apart.
    """

    place: int
    token: str
    tag: Tag


def tagged_corpus(  # noqa: PLR0913 - what was read, and what was noticed on the way
    sentences: Sequence[Sequence[TaggedToken]],
    path: str,
    *,
    format: CorpusFormat,  # noqa: A002 - as in config
    label_set: LabelSet,
    where: Callable[[int], str],
    num_document_markers: int = 0,
    num_comments: int = 0,
    num_empty_entries: int = 0,
) -> Corpus:
    """Read the entities that tags spell in sentences, none of which is empty.

    Raises:
        DataError: For a label that the label set lacks, or a tag that no tag beside it goes with.
    """
    known = frozenset(label_set.ids)
    for token in (token for sentence in sentences for token in sentence):
        if token.tag.label and token.tag.label not in known:
            raise DataError(
                f"{where(token.place)}: label '{token.tag.label}' is not in label set "
                f"'{label_set.name}'; known: {', '.join(label_set.ids)}; add it there, "
                "or rename it here"
            )
    scheme = find_scheme([token.tag for token in sentence] for sentence in sentences)
    for token in (token for sentence in sentences for token in sentence):
        if token.tag.prefix not in f"O{PREFIXES[scheme]}":
            raise DataError(
                f"{where(token.place)}: tag '{token.tag}' does not belong to scheme {scheme}, "
                f"whose prefixes are {' '.join(PREFIXES[scheme])}; write one scheme"
            )
    decoded = [decode_tags([t.tag for t in sentence], scheme=scheme) for sentence in sentences]
    return Corpus(
        path=path,
        format=format,
        sentences=tuple(
            LabelledSentence(tuple(token.token for token in sentence), tags.spans)
            for sentence, tags in zip(sentences, decoded, strict=True)
        ),
        scheme=scheme,
        num_document_markers=num_document_markers,
        num_comments=num_comments,
        num_empty_entries=num_empty_entries,
        opened_by_inside=sum(tags.opened_by_inside for tags in decoded),
        left_open=sum(tags.left_open for tags in decoded),
    )
