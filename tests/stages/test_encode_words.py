import pickle

import pyarrow as pa
import pytest

from linkner_ray.config import RecognizeConfig
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.spanner.checkpoint import read_parts
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.encode_words import EncodeWords
from linkner_ray.stages.recognize_spans import RecognizeSpans
from tests.spanner import tiny
from tests.stages.test_recognize_spans import TEXTS, documents

RULES = {"near_miss_floor": 0.1, "max_near_misses": 9, "certain_confidence": 1.0}
CONFIG = RecognizeConfig(device="cpu", **RULES)
TABLE = documents([*TEXTS, "Paris | Berlin", TEXTS[0], "Zo\u00eb in \u6771\u4eac | Paris"])


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def encode(model):
    return EncodeWords(model.featurizer.subwords)


def test_each_token_has_the_subwords_of_its_word(encode, model):
    table = apply_stage(encode, TABLE)
    table.validate(full=True)
    columns = (table[name].to_pylist() for name in ("text", "sentences", "subwords"))
    rows = zip(*columns, strict=True)
    seen = set()
    for text, sentences, subwords in rows:
        words = [text[t["start"] : t["end"]] for s in sentences for t in s["tokens"]]
        assert len(subwords) == len(words)
        for word, ids in zip(words, subwords, strict=True):
            [encoding] = model.featurizer.subwords.tokenizer.encode_batch(
                [[word]], is_pretokenized=True, add_special_tokens=False
            )
            assert ids == encoding.ids
            seen.add(len(ids))
    assert len(seen) > 1


@pytest.mark.parametrize("scope", ["unit", "document"])
@pytest.mark.parametrize(("first", "length"), [(0, 99), (2, 4), (0, 0), (1, 1)])
def test_candidates_are_those_without_the_column_bit_for_bit(encode, model, scope, first, length):
    stage = RecognizeSpans(CONFIG.model_copy(update={"batch_scope": scope}), model)
    encoded = apply_stage(encode, TABLE).slice(first, length)
    expected = apply_stage(stage, TABLE.slice(first, length))["candidates"]
    assert apply_stage(stage, encoded)["candidates"].equals(expected)
    halves = pa.concat_tables([encoded.slice(0, 1), encoded.slice(1)])
    assert apply_stage(stage, halves)["candidates"].to_pylist() == expected.to_pylist()


def test_the_recognizer_encodes_no_word_that_is_encoded(encode, model):
    table = apply_stage(encode, TABLE)
    stage = RecognizeSpans(CONFIG, model)
    before, model.featurizer.subwords = model.featurizer.subwords, None
    try:
        found = apply_stage(stage, table)["candidates"].to_pylist()
    finally:
        model.featurizer.subwords = before
    assert sum(map(len, found)) > 10


def test_documents_whose_candidates_are_known_are_not_encoded(encode, model):
    stage = RecognizeSpans(CONFIG, model)
    whole = apply_stage(stage, TABLE)["candidates"].to_pylist()
    known = [row if index % 2 else None for index, row in enumerate(whole)]
    table = TABLE.append_column("candidates", pa.array(known, STAGE_COLUMNS["candidates"]))
    encoded = apply_stage(encode, table)
    counts = [len(row) for row in encoded["subwords"].to_pylist()]
    assert sum(counts[1::2]) == 0
    assert sum(counts[0::2]) > 0
    found = apply_stage(stage, encoded)["candidates"].to_pylist()
    assert found[1::2] == whole[1::2]
    assert [[(c["start"], c["end"]) for c in row] for row in found] == [
        [(c["start"], c["end"]) for c in row] for row in whole
    ]


def test_the_tokenizer_of_a_checkpoint_encodes_as_its_model_does(tmp_path):
    # A token has more subwords than a window holds: both cut it at the same place.
    small = tiny.model(max_subwords=16, window_overlap=4)
    small.save_pretrained(tmp_path)
    table = documents(["Paris " + "zq7" * 20 + " Berlin"])
    found = EncodeWords(read_parts(tmp_path).subword_encoder())(table)["subwords"]
    assert found.equals(EncodeWords(small.featurizer.subwords)(table)["subwords"])
    assert max(map(len, found[0].as_py())) == 14


def test_a_copy_in_another_process_encodes_the_same(encode):
    copy = pickle.loads(pickle.dumps(encode))  # noqa: S301 - our own
    assert copy(TABLE)["subwords"].equals(encode(TABLE)["subwords"])
