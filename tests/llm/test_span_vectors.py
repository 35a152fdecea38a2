import numpy as np
import pytest
import torch

from linkner_ray.llm.context import Question
from linkner_ray.llm.span_vectors import SpanEmbedder
from tests.spanner import tiny


def question(context, span):
    start = context.index(span)
    return Question(context, start, start + len(span))


def states_of(embed, text):
    ids = text if isinstance(text, list) else embed._tokenizer.encode(text).ids
    with torch.inference_mode():
        return embed._model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_vectors_are_means_of_states_and_do_not_depend_on_the_batch(kind, monkeypatch):
    monkeypatch.setattr("linkner_ray.spanner.encoders.load_encoder", tiny.encoder)
    embed = SpanEmbedder(kind)
    long = "Paris , London and New York are cities ;"
    found = embed([question(long, "New York"), question("Peter", "Peter"), question(long, "Paris")])
    assert len(found.sentences) == 2
    assert found.sentence_of[0] == found.sentence_of[2] != found.sentence_of[1]
    states = states_of(embed, long)
    offsets = embed._tokenizer.encode(long).offsets
    touched = [n for n, (start, end) in enumerate(offsets) if start < 27 and end > 19]
    np.testing.assert_allclose(found.spans[0], unit(states[touched].mean(0)), atol=1e-5)
    whole = unit(states.mean(0))
    np.testing.assert_allclose(found.sentences[found.sentence_of[0]], whole, atol=1e-5)
    alone = embed([question(long, "Paris")])
    np.testing.assert_allclose(alone.spans[0], found.spans[2], atol=1e-5)


def test_of_a_long_context_the_part_around_the_span_is_read(tmp_path):
    embed = SpanEmbedder(tiny.save_bert(tmp_path))
    end = "Angela Merkel met Peter ."
    context = f"{'Paris , ' * 400}{end}"
    found = embed([question(context, "Peter"), question(context, "Paris")])
    encoding = embed._tokenizer.encode(context)
    last = encoding.overflowing[-1]
    assert set(found.sentence_of) == {0, 1}
    for index, (window, token) in enumerate([(last, "peter"), (encoding, "paris")]):
        states = states_of(embed, window.ids)
        np.testing.assert_allclose(
            found.spans[index], unit(states[window.tokens.index(token)]), atol=1e-5
        )


def test_for_a_span_without_subwords_its_sentence_stands(tmp_path):
    embed = SpanEmbedder(tiny.save_bert(tmp_path))
    found = embed([question("Peter \u0301 met", "\u0301")])  # an accent, which BERT leaves out
    np.testing.assert_array_equal(found.spans, found.sentences)
