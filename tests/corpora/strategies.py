"""Random labelled sentences for hypothesis."""

from itertools import pairwise

from hypothesis import strategies as st

from linkner_ray.corpora.labelled import LabelledSentence, LabelledSpan


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
