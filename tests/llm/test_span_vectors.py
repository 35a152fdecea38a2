from itertools import islice

import numpy as np
import pytest
import torch

from linkner_ray.llm.context import Question
from linkner_ray.llm.span_vectors import SpanEmbedder, SpanPool, SpanVectors
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


def clustered(num, num_sentences, *, seed):
    """Spans of five kinds, many of them nearly or wholly alike, as names of one label are."""
    rng = np.random.default_rng(seed)
    kinds = np.random.default_rng(0).normal(size=(5, 64))
    spans = kinds[rng.integers(5, size=num)] + 0.1 * rng.normal(size=(num, 64))
    spans[num // 2 :: 7] = spans[0]
    sentences = rng.normal(size=(num_sentences, 64))
    scaled = [(rows / np.linalg.norm(rows, axis=1, keepdims=True)) for rows in (spans, sentences)]
    sentence_of = np.sort(rng.integers(num_sentences, size=num))
    return SpanVectors(*(rows.astype(np.float32) for rows in scaled), sentence_of)


@pytest.mark.parametrize("has_bfloat16", [False, True])
@pytest.mark.parametrize(("num", "head"), [(5_000, 12), (5_000, 1_100), (900, 12), (3, 12)])
def test_ranking_is_that_of_exact_similarities(monkeypatch, has_bfloat16, num, head):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": has_bfloat16})
    pool, asked = clustered(num, max(2, num // 3), seed=1), clustered(20, 6, seed=2)
    spans = asked.spans.astype(float) @ pool.spans.T.astype(float)
    sentences = asked.sentences.astype(float) @ pool.sentences.T.astype(float)
    exact = spans + sentences[asked.sentence_of][:, pool.sentence_of]

    found = [list(islice(one, 300)) for one in SpanPool(pool).ranked(asked, head)]

    assert found == np.argsort(-exact.round(4), axis=1, kind="stable")[:, :300].tolist()
