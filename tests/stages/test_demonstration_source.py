import numpy as np
import pytest

from linkner_ray.config import DemonstrationsConfig, LlmConfig
from linkner_ray.errors import DataError
from linkner_ray.stages.demonstration_source import (
    SentenceEmbedder,
    corpus_digest,
    fixed_demonstrations,
    load_demonstrations,
)
from tests.spanner import tiny

CONLL = """Peter B-PER
met O
Angela B-PER
in O
Berlin B-LOC

London B-LOC
called O
Microsoft B-ORG
"""


@pytest.fixture
def config(tmp_path):
    corpus = tmp_path / "train.conll"
    corpus.write_text(CONLL)

    def config(kind, **settings):
        return LlmConfig(
            backend="openai", model="m", base_url="http://nowhere",
            demonstrations=DemonstrationsConfig(kind=kind, corpus=str(corpus), **settings),
        )  # fmt: skip

    return config


def test_none_asks_for_no_corpus():
    config = LlmConfig(backend="none")
    assert load_demonstrations(config, tiny.LABELS) is None
    assert fixed_demonstrations(config, tiny.LABELS) == ()
    assert corpus_digest(config) is None


def test_demonstrations_without_a_corpus_are_refused():
    with pytest.raises(ValueError, match=r"kind = 'random' needs llm\.demonstrations\.corpus"):
        DemonstrationsConfig(kind="random")


def test_random_ones_are_the_same_at_planning_and_at_work(config):
    random = config("random")
    fixed = fixed_demonstrations(random, tiny.LABELS)
    assert load_demonstrations(random, tiny.LABELS).choose(["x"])[0].fixed == fixed
    # two sentences, none used twice
    assert len(fixed) == 2
    assert {d.question.context for d in fixed} == {
        "Peter met Angela in Berlin", "London called Microsoft",
    }  # fmt: skip


def test_the_digest_is_of_what_the_corpus_holds_and_not_of_where_it_lies(config, tmp_path):
    before = corpus_digest(config("random"))
    (tmp_path / "train.conll").write_text(CONLL.replace("met", "saw"))
    assert corpus_digest(config("random")) != before


@pytest.mark.parametrize("kind", ["random", "nearest"])
def test_a_label_that_the_checkpoint_does_not_know_is_named_at_planning(config, tmp_path, kind):
    (tmp_path / "train.conll").write_text("Peter B-NOBODY\n")
    with pytest.raises(DataError, match="NOBODY"):
        fixed_demonstrations(config(kind), tiny.LABELS)


def test_nearest_ones_come_by_an_encoder(config, tmp_path):
    encoder = tiny.save_bert(tmp_path / "encoder")
    demonstrations = load_demonstrations(config("nearest", count=1, encoder=encoder), tiny.LABELS)
    asked = ["London called Microsoft on Thursday", "Peter met Angela in Paris"]
    near = [shown.near[0].question.context for shown in demonstrations.choose(asked)]
    assert near == ["London called Microsoft", "Peter met Angela in Berlin"]


def test_a_vector_is_the_mean_of_the_states_and_does_not_depend_on_the_batch(tmp_path):
    import torch

    embed = SentenceEmbedder(tiny.save_bert(tmp_path))
    texts = ["Paris , London and New York are cities ;", "Peter", "Angela Merkel in Berlin on"]
    together = embed(texts)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)
    for text, vector in zip(texts, together, strict=True):
        ids = torch.tensor([embed._tokenizer.encode(text).ids])
        with torch.inference_mode():
            mean = embed._model(input_ids=ids).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
