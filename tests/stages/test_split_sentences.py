import pickle
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.config import SentencesConfig
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.split_sentences import BlingfireSegmenter, SplitSentences
from linkner_ray.unread import count_unread
from tests.stages.test_words import INVISIBLE, texts


@pytest.fixture(scope="module")
def stage():
    return SplitSentences(SentencesConfig())


def table(*values):
    return pa.table({"text": pa.array(values, pa.string())})


def sentences_of(stage, text):
    return apply_stage(stage, table(text))["sentences"].to_pylist()[0]


def sentence_texts(stage, text):
    return [text[s["start"] : s["end"]] for s in sentences_of(stage, text)]


def assert_complete(text, sentences):
    """Ordered, disjoint, each token in one sentence, each visible character in one."""
    position = 0
    uncovered = []
    for sentence in sentences:
        tokens = sentence["tokens"]
        assert tokens
        assert sentence["start"] == tokens[0]["start"]
        assert sentence["end"] == tokens[-1]["end"]
        for token in tokens:
            assert position <= token["start"] < token["end"] <= len(text)
            uncovered.append(text[position : token["start"]])
            position = token["end"]
    uncovered.append(text[position:])
    assert not "".join(uncovered).translate(INVISIBLE).strip()


@given(texts)
def test_every_visible_character_is_in_one_token(text):
    stage = SplitSentences(SentencesConfig(max_token_chars=8))
    sentences = sentences_of(stage, text)
    assert_complete(text, sentences)
    assert all(t["end"] - t["start"] <= 8 for s in sentences for t in s["tokens"])


@given(texts)
def test_no_sentence_crosses_a_line_or_a_cell(text):
    stage = SplitSentences(SentencesConfig(segmenter="lines"))
    sentences = sentence_texts(stage, text)
    assert not [s for s in sentences if len(s.splitlines()) > 1 or "\t" in s or "  " in s]


@pytest.mark.parametrize("border", ["\t\t", "\t", "  ", "    ", "\u00a0\u00a0\u00a0", " \t "])
def test_a_cell_ends_a_sentence(stage, border):
    row = f"Angela Merkel{border}Siemens{border}Berlin"
    assert sentence_texts(stage, row) == ["Angela Merkel", "Siemens", "Berlin"]


@pytest.mark.parametrize("text", ["Dr. Smith \u00a0came", "Abe\u3000Shinzo came", "a \u00a0b"])
def test_one_blank_or_two_of_different_kinds_are_no_border(stage, text):
    assert sentence_texts(stage, text) == [text]


@given(st.lists(texts, max_size=5), st.integers(0, 5))
def test_a_slice_of_a_block_is_split_as_the_whole_block_is(values, start):
    stage = SplitSentences(SentencesConfig(segmenter="lines"))
    whole = stage(table(*values))["sentences"].to_pylist()
    assert stage(table(*values).slice(start))["sentences"].to_pylist() == whole[start:]


@given(
    st.text(st.sampled_from("aZ. !?\u00e4\u0301\U0001f600\u4e2d\u3002"), min_size=1, max_size=60)
)
def test_blingfire_covers_a_line_from_end_to_end(line):
    spans = BlingfireSegmenter()(line)
    if spans:
        assert spans[0][0] == 0
        assert spans[-1][1] == len(line)
        assert all(a[1] == b[0] for a, b in pairwise(spans))


def test_offsets_are_code_points_behind_umlauts_marks_and_astral_characters(stage):
    text = "Das ist sch\u00f6n. E\u0301te\u0301 \U0001f600 kam. Ende."
    assert sentence_texts(stage, text) == [
        "Das ist sch\u00f6n.",
        "E\u0301te\u0301 \U0001f600 kam.",
        "Ende.",
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\u2029", "\x0c", "\x85", "\x0b"])
def test_a_line_end_ends_a_sentence(stage, end):
    assert sentence_texts(stage, f"Home{end}About us") == ["Home", "About us"]


def test_a_nul_neither_hides_nor_ends_text(stage):
    assert sentence_texts(stage, "A\0b came. He left.") == ["A\0b came.", "He left."]


@pytest.mark.parametrize("letter", ["Q", "\u0436", "\ud55c"])
def test_a_blob_is_in_no_sentence_and_what_stands_around_it_is(stage, letter):
    text = f"Ada met Bob. Then {letter * 5_000} Ada left."
    assert sentence_texts(stage, text) == ["Ada met Bob.", "Then", "Ada left."]
    assert count_unread(text, [(s["start"], s["end"]) for s in sentences_of(stage, text)]) == (
        3,
        5_000,
    )
    assert sentence_texts(stage, f"\U0001d54f{letter * 5_000}\U0001d54f")[0][0] == "\U0001d54f"


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\t\u00a0\u3000\r\n", "\ufeff\n\u200b \x10"])
def test_text_without_a_visible_character_has_no_sentences(stage, text):
    assert sentences_of(stage, text) == []


def test_the_type_is_the_declared_one_even_without_rows(stage):
    assert stage(table())["sentences"].type == STAGE_COLUMNS["sentences"]
    assert stage(table("One. Two."))["sentences"].type == STAGE_COLUMNS["sentences"]


def test_a_line_longer_than_a_piece_has_all_its_sentences(stage):
    # "Hello there." and a blank, 4,000 times: 52,000 characters on one line.
    assert len(sentences_of(stage, "Hello there. " * 4_000)) == 4_000


def test_a_line_the_segmenter_cannot_read_leaves_the_others_alone(stage):
    assert BlingfireSegmenter()("\ufeff") == []
    assert sentence_texts(stage, "\ufeffFirst.\n\ufeff\nNext.") == ["First.", "Next."]


def test_a_pickled_stage_splits_as_before(stage):
    copy = pickle.loads(pickle.dumps(stage))  # noqa: S301 - our own bytes
    assert sentence_texts(copy, "One. Two.") == ["One.", "Two."]


@pytest.mark.external
def test_the_crawl_sample_is_complete(stage, linkner_data):
    for path in sorted((linkner_data / "web" / "crawl").glob("*.parquet")):
        values = [text or "" for text in pq.read_table(path)["text"].to_pylist()]
        split = stage(table(*values))["sentences"].to_pylist()
        for text, sentences in zip(values, split, strict=True):
            assert_complete(text, sentences)
