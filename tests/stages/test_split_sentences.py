import pickle
import sys
import unicodedata
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.config import SentencesConfig
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.split_sentences import BlingfireSegmenter, SplitSentences, find_words

NASTY = (
    "aZ. !?,-'\u2019\"()$&1\u00e9\u0301\u00ad\u200b\u200c\u200d\u2060\ufeff\ufe0f\u0000\u00a0\u3000"
    "\t\n\r\x0b\x0c\x1c\x85\u2028\u2029\u202e\u4e2d\u3042\u30ab\uac00\u0e01\u0e34\u0915\u093f"
    "\U0001f600\U0001f3fb\U0001f1e9\U0001f1ea\U00020000\U0010ffff\ufffd\u3002tsn"
)
texts = st.one_of(
    st.text(st.sampled_from(NASTY), max_size=80),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=80),
)


@pytest.fixture(scope="module")
def stage():
    return SplitSentences(SentencesConfig())


def table(*values):
    return pa.table({"text": pa.array(values, pa.string())})


def sentences_of(stage, text):
    return apply_stage(stage, table(text))["sentences"].to_pylist()[0]


def sentence_texts(stage, text):
    return [text[s["start"] : s["end"]] for s in sentences_of(stage, text)]


def words(text, max_token_chars=64):
    starts, ends = find_words(text, max_token_chars=max_token_chars)
    return [text[a:b] for a, b in zip(starts, ends, strict=True)]


def assert_complete(text, sentences):
    """Ordered, disjoint, each token in one sentence, each character that is not blank in one."""
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
    assert not "".join(uncovered).strip()


@given(texts)
def test_every_character_that_is_not_blank_is_in_one_token(text):
    stage = SplitSentences(SentencesConfig(max_token_chars=8))
    sentences = sentences_of(stage, text)
    assert_complete(text, sentences)
    assert all(t["end"] - t["start"] <= 8 for s in sentences for t in s["tokens"])


@given(texts)
def test_no_sentence_crosses_a_line(text):
    stage = SplitSentences(SentencesConfig(segmenter="lines"))
    expected = [line.strip() for line in text.splitlines() if line.strip()]
    assert sentence_texts(stage, text) == expected


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


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\t\u00a0\u3000\r\n"])
def test_blank_text_has_no_sentences(stage, text):
    assert sentences_of(stage, text) == []


def test_the_type_is_the_declared_one_even_without_rows(stage):
    assert stage(table())["sentences"].type == STAGE_COLUMNS["sentences"]
    assert stage(table("One. Two."))["sentences"].type == STAGE_COLUMNS["sentences"]


def test_a_line_longer_than_a_piece_has_all_its_sentences(stage):
    # "Hello there." and a blank, 4,000 times: 52,000 characters on one line.
    assert len(sentences_of(stage, "Hello there. " * 4_000)) == 4_000


def test_a_line_the_segmenter_cannot_read_is_one_sentence():
    stage = SplitSentences(SentencesConfig())
    assert sentence_texts(stage, "\ufeff\nNext.") == ["\ufeff", "Next."]


def test_a_pickled_stage_splits_as_before(stage):
    copy = pickle.loads(pickle.dumps(stage))  # noqa: S301 - our own bytes
    assert sentence_texts(copy, "One. Two.") == ["One.", "Two."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I don't think", "I|do|n't|think"),
        ("ISN'T can\u2019t", "IS|N'T|ca|n\u2019t"),
        ("O'Brien's", "O'Brien|'s"),
        ("We've they'll I'm", "We|'ve|they|'ll|I|'m"),
        ("the U.S. firm, e.g. this", "the|U.S.|firm|,|e.g.|this"),
        ("J. R. Smith.", "J.|R.|Smith|."),
        ("$1,000.50 4.2%", "$|1,000.50|4.2|%"),
        ("1996-08-22 at 12:30", "1996-08-22|at|12:30"),
        ("AT&T and R & D", "AT&T|and|R|&|D"),
        ("a well-known -- fact", "a|well-known|--|fact"),
        ("See example.com.", "See|example.com|."),
        ("end.Next", "end|.|Next"),
        ("l'Europe d'Artagnan", "l'|Europe|d'|Artagnan"),
        ("'quoted'", "'|quoted|'"),
        ("wait...", "wait|..."),
        ("\u6771\u4eac\u30bf\u30ef is", "\u6771|\u4eac|\u30bf|\u30ef|is"),
        ("\ud55c\uad6d\uc5b4 ok", "\ud55c\uad6d\uc5b4|ok"),
        ("\u0928\u092e\u0938\u094d\u0924\u0947", "\u0928\u092e\u0938\u094d\u0924\u0947"),
        ("hi\U0001f600\U0001f600", "hi|\U0001f600|\U0001f600"),
        (
            "\U0001f468\u200d\U0001f469\u200d\U0001f467!",
            "\U0001f468\u200d\U0001f469\u200d\U0001f467|!",
        ),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "\U0001f1e9\U0001f1ea|\U0001f1eb\U0001f1f7"),
        ("cafe\u0301s", "cafe\u0301s"),
    ],
)
def test_words_of_known_texts(text, expected):
    assert words(text) == expected.split("|")


def test_a_long_word_is_cut_and_nothing_of_it_lost():
    # 150 = 64 + 64 + 22
    assert [len(word) for word in words("x" * 150 + " y")] == [64, 64, 22, 1]


def test_every_mark_of_this_python_stays_with_its_letter():
    everything = map(chr, range(sys.maxunicode + 1))
    marks = [c for c in everything if unicodedata.category(c).startswith("M")]
    assert words(" ".join(f"a{mark}b" for mark in marks)) == [f"a{mark}b" for mark in marks]


def test_an_apostrophe_or_hyphen_at_the_end_of_a_word_is_a_token():
    assert words("dogs' anti- N't") == ["dogs", "'", "anti", "-", "N", "'", "t"]


@pytest.mark.external
def test_the_crawl_sample_is_complete(stage, linkner_data):
    for path in sorted((linkner_data / "web" / "crawl").glob("*.parquet")):
        values = [text or "" for text in pq.read_table(path)["text"].to_pylist()]
        split = stage(table(*values))["sentences"].to_pylist()
        for text, sentences in zip(values, split, strict=True):
            assert_complete(text, sentences)
