"""Random labelled sentences for hypothesis, and how tags spell them."""

from itertools import pairwise

from hypothesis import strategies as st

from linkner_ray.corpora.labelled import LabelledSentence, LabelledSpan
from linkner_ray.corpora.tags import OUTSIDE, Tag


@st.composite
def flat_spans(draw, num_tokens, labels=("PER", "ORG", "LOC", "MISC")):
    """Labelled spans that do not overlap but may touch."""
    cuts = sorted(draw(st.sets(st.integers(0, num_tokens), max_size=8)))
    kept = [pair for pair in pairwise(cuts) if draw(st.booleans())]
    return tuple(LabelledSpan(start, end, draw(st.sampled_from(labels))) for start, end in kept)


@st.composite
def labelled_sentences(draw, tokens):
    words = tuple(draw(st.lists(tokens, min_size=1, max_size=12)))
    return LabelledSentence(words, draw(flat_spans(len(words))))


def encode_tags(num_tokens, spans, *, scheme):
    """Spell entities that do not overlap as one tag for each token; the reverse of reading."""
    tags = [OUTSIDE] * num_tokens
    for span in spans:
        tags[span.start_token : span.end_token] = [Tag("I", span.label)] * span.width
        if scheme == "iob1":
            before = tags[span.start_token - 1] if span.start_token else OUTSIDE
            first = "B" if before.label == span.label else "I"
        else:
            first = "B"
        tags[span.start_token] = Tag(first, span.label)
        if scheme in {"iobes", "bilou"}:
            last, single = ("E", "S") if scheme == "iobes" else ("L", "U")
            tags[span.end_token - 1] = Tag(single if span.width == 1 else last, span.label)
    return tags
