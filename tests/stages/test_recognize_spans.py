import pyarrow as pa
import pytest
import torch

from linkner_ray.config import RecognizeConfig, SentencesConfig
from linkner_ray.errors import ConfigError, StartupError
from linkner_ray.schemas import DOCUMENTS
from linkner_ray.spanner.predict import Recognizer
from linkner_ray.spanner.self_check import record_self_check
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.document_tokens import fields_of
from linkner_ray.stages.recognize_spans import RecognizeSpans
from linkner_ray.stages.split_sentences import SplitSentences
from linkner_ray.stages.words import find_words
from tests.spanner import tiny
from tests.spanner.candidates import candidates_of

CONFIG = RecognizeConfig(near_miss_floor=0.3, max_near_misses=2, device="cpu", batch_tokens=512)

TEXTS = [
    "Peter Blackburn met Angela Merkel in Berlin .\nParis and London",
    "",
    "\U0001f600 \u6771\u4eac Microsoft is in New York .",
    "   \n ",
    "Obama visited the World Bank",
]


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def stage(model):
    return RecognizeSpans(CONFIG, model)


def documents(texts):
    columns = {
        "doc_id": [str(index) for index in range(len(texts))],
        "url": [None] * len(texts),
        "lang": [None] * len(texts),
        "text": texts,
    }
    return apply_stage(SplitSentences(SentencesConfig()), pa.table(columns, schema=DOCUMENTS))


def rounded(table):
    """Candidates with scores to five digits."""
    rows = table["candidates"].to_pylist()
    for candidate in (one for row in rows for one in row):
        candidate["label_probs"] = pytest.approx(candidate["label_probs"], abs=1e-5)
        candidate["uncertainty"] = pytest.approx(candidate["uncertainty"], abs=1e-5)
    return rows


def test_candidates_are_those_of_the_model_in_code_points(stage, model):
    table = apply_stage(stage, documents(TEXTS))
    table.validate(full=True)
    recognizer = Recognizer(model, CONFIG)
    for text, sentences, found in zip(
        TEXTS, table["sentences"].to_pylist(), table["candidates"].to_pylist(), strict=True
    ):
        words = [[text[t["start"] : t["end"]] for t in s["tokens"]] for s in sentences]
        expected = [
            (
                index,
                sentences[index]["tokens"][one.start_token]["start"],
                sentences[index]["tokens"][one.end_token - 1]["end"],
                one.label,
                one.kind,
            )
            for index, row in enumerate(candidates_of(recognizer, words))
            for one in row
        ]
        keys = ("sentence", "start", "end", "label", "kind")
        assert [tuple(one[key] for key in keys) for one in found] == expected
        assert all(len(one["label_probs"]) == 4 for one in found)
    counts = [len(row) for row in table["candidates"].to_pylist()]
    assert counts[1] == counts[3] == 0
    assert min(counts[0], counts[2], counts[4]) > 0


def test_a_slice_of_a_table_gives_what_the_whole_table_gives(stage):
    table = documents(TEXTS)
    whole = stage(table)["candidates"].to_pylist()
    assert rounded(stage(table.slice(2, 2))) == whole[2:4]
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert rounded(stage(chunked)) == whole


def test_an_empty_table_and_a_table_without_sentences(stage):
    table = documents(TEXTS)
    assert apply_stage(stage, table.slice(0, 0)).num_rows == 0
    empty = apply_stage(stage, documents(["", "\n"]))
    assert empty["candidates"].to_pylist() == [[], []]


def test_null_sentences_have_no_candidates(stage):
    table = documents(["Paris", "Berlin"])
    nulls = pa.array([None, table["sentences"][1].as_py()], table.schema.field("sentences").type)
    place = table.column_names.index("sentences")
    found = stage(table.set_column(place, "sentences", nulls))["candidates"].to_pylist()
    assert found[0] == []


def test_a_document_of_one_huge_sentence(stage):
    table = apply_stage(stage, documents([" ".join(["Peter", "Blackburn", "in", "Berlin"] * 1250)]))
    (found,) = table["candidates"].to_pylist()
    assert len({one["sentence"] for one in found}) == 1
    # The window at the end of the 5,000 tokens has answered too.
    assert found[-1]["end"] > table["text"][0].as_py().__len__() - 200


def test_the_label_set_and_threads_come_from_checkpoint_and_config(model, tmp_path):
    before = torch.get_num_threads()
    model.save_pretrained(tmp_path)
    config = CONFIG.model_copy(update={"checkpoint": str(tmp_path), "num_threads": before + 1})
    try:
        stage = RecognizeSpans(config)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert stage.label_set == tiny.LABELS
    table = documents(TEXTS)
    assert rounded(stage(table)) == RecognizeSpans(CONFIG, model)(table)["candidates"].to_pylist()


def test_a_checkpoint_that_is_not_there_is_a_wrong_config():
    nowhere = CONFIG.model_copy(update={"checkpoint": "not/there"})
    with pytest.raises(ConfigError, match="no such folder"):
        RecognizeSpans(nowhere)


def test_a_checkpoint_that_answers_otherwise_than_its_self_check_does_not_start(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = CONFIG.model_copy(update={"checkpoint": str(tmp_path)})
    record_self_check(model, tiny.sentences(4)).write(tmp_path)
    RecognizeSpans(config)
    (tmp_path / "calibration.json").write_text('{"temperature": 2.0}')
    with pytest.raises(StartupError, match="does not answer as it did"):
        RecognizeSpans(config)


def test_in_batches_of_a_document_its_candidates_are_those_it_has_alone(model):
    config = CONFIG.model_copy(update={"batch_scope": "document"})
    stage, texts = RecognizeSpans(config, model), [*TEXTS, TEXTS[0] * 9]
    split = SplitSentences(SentencesConfig())
    together = apply_stage(stage, apply_stage(split, documents(texts)))["candidates"]
    alone = [
        apply_stage(stage, apply_stage(split, documents([text])))["candidates"][0].as_py()
        for text in texts
    ]
    assert together.to_pylist() == alone
    assert sum(map(len, alone)) > 10


def test_repeated_lines_have_the_bytes_of_the_first_at_their_own_places(model):
    # Each sentence has a forward pass of its own, so nothing else moves a bit.
    alone = RecognizeSpans(CONFIG.model_copy(update={"batch_tokens": 0}), model)
    menu = "Paris | Berlin | New York"
    texts = [
        f"{menu}\nPeter Blackburn met Obama .\n{menu}",
        f"\u6771\u4eac\n{menu}\nParis Berlin New York\n{menu}",
        "",
        f"Obama\n{menu}",
    ]
    table = documents(texts)
    found = alone(table)["candidates"].to_pylist()
    assert sum(map(len, found)) > 12
    for text, sentences, row in zip(texts, table["sentences"].to_pylist(), found, strict=True):
        expected = []
        for index, sentence in enumerate(sentences):
            line = text[sentence["start"] : sentence["end"]]
            for one in alone(documents([line]))["candidates"][0].as_py():
                begin = sentence["start"]
                moved = {"start": begin + one["start"], "end": begin + one["end"]}
                expected.append(one | moved | {"sentence": index})
        assert row == expected


def test_documents_without_sentences_need_no_batch(model):
    stage = RecognizeSpans(CONFIG.model_copy(update={"batch_scope": "document"}), model)
    table = apply_stage(SplitSentences(SentencesConfig()), documents(["", " "]))
    assert apply_stage(stage, table)["candidates"].to_pylist() == [[], []]


@pytest.mark.parametrize("scope", ["unit", "document"])
def test_a_document_without_a_number_has_null_and_the_others_theirs(stage, scope):
    config = CONFIG.model_copy(update={"batch_scope": scope})
    broken = RecognizeSpans(config, tiny.without_a_number("Obama"))
    table = documents([*TEXTS, "Paris"])
    found = apply_stage(broken, table.slice(1))["candidates"].to_pylist()
    assert found[3] is None
    expected = rounded(apply_stage(stage, table.slice(1)))
    assert [*found[:3], *found[4:]] == [*expected[:3], *expected[4:]]


@pytest.mark.parametrize("scope", ["unit", "document"])
def test_no_candidate_reaches_over_a_lone_bar(model, scope):
    rules = {"batch_scope": scope, "near_miss_floor": 0.0, "max_near_misses": 999}
    rules["certain_confidence"] = 1.0
    stage = RecognizeSpans(CONFIG.model_copy(update=rules), model)
    texts = ["Paris", "met Angela Merkel | Siemens in Rome", "Home | Berlin"]
    found = apply_stage(stage, documents(texts))["candidates"].to_pylist()
    words = [
        {text[c["start"] : c["end"]] for c in row} for text, row in zip(texts, found, strict=True)
    ]
    assert {"Merkel", "Angela Merkel", "Siemens", "Siemens in Rome"} <= words[1]
    assert not [word for row in words for word in row if "|" in word and word != "|"]


def test_a_lone_bar_stands_between_fields_and_is_one_and_a_bar_in_a_word_is_none():
    def fields(text):
        starts, _ = find_words(text, max_token_chars=64)
        return fields_of(text, starts).tolist()

    assert fields("Home | About us |") == [0, 1, 2, 2, 3]
    assert fields("| Home") == [1, 2]
    assert len(set(fields("this and|or that"))) == 1
    assert fields("") == []
