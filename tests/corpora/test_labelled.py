import pytest

from linkner_ray.corpora.labelled import (
    Corpus,
    LabelledSentence,
    LabelledSpan,
    unreachable_spans,
)

FOUR = ("a", "b", "c", "d")


def test_a_sentence_has_tokens():
    with pytest.raises(ValueError, match="at least one token"):
        LabelledSentence(())


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (1, 1), (2, 1), (3, 5)])
def test_a_span_lies_in_its_sentence(start, end):
    with pytest.raises(ValueError, match="does not lie in a sentence of 4 tokens"):
        LabelledSentence(FOUR, (LabelledSpan(start, end, "PER"),))


@pytest.mark.parametrize("other", [LabelledSpan(0, 2, "PER"), LabelledSpan(1, 3, "ORG")])
def test_spans_come_in_order_and_once(other):
    with pytest.raises(ValueError, match="ascending order"):
        LabelledSentence(FOUR, (LabelledSpan(1, 3, "PER"), other))


def test_spans_may_touch_and_nest():
    touching = LabelledSentence(FOUR, (LabelledSpan(0, 2, "PER"), LabelledSpan(2, 4, "ORG")))
    nested = LabelledSentence(FOUR, (LabelledSpan(0, 4, "ORG"), LabelledSpan(1, 2, "LOC")))
    corpus = Corpus(path="x", format="spanner_json", sentences=(touching, nested))
    assert corpus.num_entities == 4


def test_unreachable_spans_are_those_wider_than_the_model_looks():
    spans = (LabelledSpan(0, 3, "ORG"), LabelledSpan(3, 4, "LOC"))  # widths 3 and 1
    sentences = [LabelledSentence(FOUR, spans), LabelledSentence(FOUR)]
    assert [unreachable_spans(sentences, width) for width in (0, 1, 2, 3)] == [2, 1, 1, 0]
