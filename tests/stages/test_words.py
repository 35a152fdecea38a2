import sys
import time
import unicodedata
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icu4py.breakers import CharacterBreaker

from linkner_ray.stages.words import find_words

NASTY = (
    "aZ. !?,-'\u2019\"()$&1\u00e9\u0301\u00ad\u200b\u200c\u200d\u2060\ufeff\ufe0f\u0000\u00a0\u3000"
    "\t\n\r\x0b\x0c\x1c\x85\u2028\u2029\u202e\u4e2d\uac00\u0915\u093f|"
    "\u3042\u3083\u30ab\u30a2\u30fc\u3099\uff9e\u0e01\u0e34\u0e40\u0e33\u0eab\u1780\u17d2\u17b4\u1000\u1039"
    "\u0600\u3164\u115f\u034f\ufe0e\u1950\ua984"
    "\U0001f600\U0001f3fb\U0001f1e9\U0001f1ea\U00020000\U0010ffff\ufffd\u3002tsn"
)
texts = st.one_of(
    st.text(st.sampled_from(NASTY), max_size=80),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=80),
)

FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
VISIBLE_FORMATS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
INVISIBLE = {
    point: None
    for point in range(sys.maxunicode + 1)
    if (unicodedata.category(chr(point)) in ("Cc", "Cf") and chr(point) not in VISIBLE_FORMATS)
    or chr(point) in FILLERS
    or 0xFE00 <= point <= 0xFE0F
    or 0xE0100 <= point <= 0xE01EF
}


def words(text, max_token_chars=64):
    starts, ends = find_words(text, max_token_chars=max_token_chars)
    return [text[a:b] for a, b in zip(starts, ends, strict=True)]


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
        ("\u6771\u4eac\u30bf\u30ef\u30fc is", "\u6771|\u4eac|\u30bf\u30ef\u30fc|is"),
        ("\ud55c\uad6d\uc5b4 ok", "\ud55c\uad6d\uc5b4|ok"),
        ("\u0928\u092e\u0938\u094d\u0924\u0947", "\u0928\u092e\u0938\u094d\u0924\u0947"),
        ("hi\U0001f600\U0001f600", "hi|\U0001f600|\U0001f600"),
        (
            "\U0001f468\u200d\U0001f469\u200d\U0001f467!",
            "\U0001f468\u200d\U0001f469\u200d\U0001f467|!",
        ),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "\U0001f1e9\U0001f1ea|\U0001f1eb\U0001f1f7"),
        ("cafe\u0301s", "cafe\u0301s"),
        ("\ua9b2\ua98f\ua9c0\ua9b1\ua9ab", "\ua9b2|\ua98f\ua9c0\ua9b1|\ua9ab"),  # Javanese
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


@pytest.mark.parametrize(
    "expected",
    [
        # Thai: Angela Merkel met Siemens in Berlin
        "\u0e19\u0e32\u0e07|\u0e2d\u0e31\u0e07|\u0e40\u0e01|\u0e25\u0e32|"
        "\u0e41\u0e21\u0e23\u0e4c|\u0e40\u0e04\u0e34\u0e25|\u0e1e\u0e1a|"
        "\u0e1c\u0e39\u0e49|\u0e1a\u0e23\u0e34\u0e2b\u0e32\u0e23|\u0e0b\u0e35|"
        "\u0e40\u0e21\u0e19\u0e2a\u0e4c|\u0e43\u0e19|\u0e01\u0e23\u0e38\u0e07|"
        "\u0e40\u0e1a\u0e2d\u0e23\u0e4c\u0e25\u0e34\u0e19",
        # Lao: I met
        "\u0e82\u0ec9\u0ead\u0e8d|\u0ec4\u0e94\u0ec9|\u0e9e\u0ebb\u0e9a|\u0e97\u0ec8\u0eb2\u0e99",
        # Khmer: in Phnom Penh yesterday
        "\u1793\u17c5|\u1797\u17d2\u1793\u17c6\u1796\u17c1\u1789|"
        "\u1780\u17b6\u179b\u1796\u17b8|\u1798\u17d2\u179f\u17b7\u179b\u1798\u17b7\u1789",
        # Burmese: in the city of Yangon
        "\u101b\u1014\u103a|\u1000\u102f\u1014\u103a|\u1019\u103c\u102d\u102f\u1037|"
        "\u1010\u103d\u1004\u103a",
        # Japanese: Ronaldo came from Portugal
        "\u30ed\u30ca\u30a6\u30c9|\u304c|\u30dd\u30eb\u30c8\u30ac\u30eb|\u304b\u3089|"
        "\u6765|\u305f|\u3002",
        "\u30a2\u30e1\u30ea\u30ab|\u30c9\u30eb",  # Japanese: America, dollar
        # Japanese: Kyary Pamyu Pamyu
        "\u304d\u3083\u308a\u30fc|\u3071\u307f\u3085\u3071|\u307f\u3085",
        # Japanese: I study Japanese; the particles wa and wo stay apart
        "\u308f\u305f\u3057|\u306f|\u306b|\u307b\u3093|\u3054|\u3092|\u3079\u3093|\u304d\u3087\u3046|\u3057|\u3066\u3044|\u307e\u3059|\u3002",
        # Japanese: the names Ishii Hisaichi and Aimyon, each with a particle behind it
        "\u3044\u3057\u3044|\u3072\u3055|\u3044\u3061|\u3068|\u3042\u3044|\u307f\u3087\u3093|\u306f",
        # Japanese: a row of particles
        "\u306e|\u306b|\u306f|\u304c|\u3092|\u3068|\u3067\u3082",
    ],
)
def test_scripts_without_spaces_have_words(expected):
    assert words(expected.replace("|", "")) == expected.split("|")


@pytest.mark.parametrize(
    "name",
    [
        "\u30a2\u30ec\u30af\u30b5\u30f3\u30c9\u30e9\u30b4\u30eb\u30d0\u30c1\u30e7\u30ef\u30b9\u30ad\u30fc",
        "\u30a2\u30fc\u30ce\u30eb\u30c9\u30b7\u30e5\u30ef\u30eb\u30c4\u30a7\u30cd\u30c3\u30ac\u30fc",
        "\u30a2\u30a4\u30a6\u30a8\u30aa\u30ab\u30ad\u30af\u30b1\u30b3\u30b5\u30b7\u30b9\u30bb\u30bd\u30bf",
        "\u30cc\u30eb\u30dd\u30ac\u30c3\u30cc\u30eb\u30dd\u30ac\u30c3\u30cc\u30eb\u30dd\u30ac\u30c3\u30cc",
        "\uff71\uff9a\uff78\uff7b\uff9d\uff84\uff9e\uff97\uff7a\uff9e\uff99\uff8a\uff9e\uff81\uff6e\uff9c",
        # hiragana
        "\u3071\u3074\u3077\u307a\u307d\u3071\u3074\u3077\u307a\u307d\u3071\u3074\u3077\u307a\u307d\u3071",
        "\u3042\u3044\u3046\u3048\u304a\u304b\u304d\u304f\u3051\u3053\u3055\u3057\u3059\u305b\u305d\u305f",
        "\u3080\u3057\u307e\u308b\u3075\u3086\u304d\u3061\u3080\u3057\u307e\u308b\u3075\u3086\u304d\u3061",
    ],
)
def test_a_kana_name_has_at_most_half_as_many_tokens_as_characters(name):
    # The widest name is `local.max_width` tokens, 10 if nothing is said.
    assert len(words(name)) <= len(name) / 2


SCRIPTS = (
    "a\u00e9\u0301",
    "\u0915\u094d\u093f",
    "\u4e2d\u3042\u3083\u30ab\u30fc\u3099\uff76\uff9e",
    "\u0e01\u0e40\u0e34\u0e48\u0e33",
    "\u0eab\u0ec0\u0eb4\u0eb3",
    "\u1780\u17d2\u17b6\u17c6",
    "\u1000\u1039\u102d\u1031\u103a",
    "\u1a20\u1a60\u1a63",
)
letters = st.sampled_from(SCRIPTS).flatmap(
    lambda script: st.text(st.sampled_from(script + "1,"), max_size=60)
)


@given(texts)
def test_whatever_blank_stands_between_tokens_they_are_the_same(text):
    # A word before a plain blank or the end of a line is found by a pattern of its own.
    text = f"{text} {text}\n"
    other = text.replace(" ", "\u00a0")
    for positions, others in zip(
        find_words(text, max_token_chars=64), find_words(other, max_token_chars=64), strict=True
    ):
        assert positions.tolist() == others.tolist()


@given(letters, st.integers(8, 12))
def test_no_token_begins_or_ends_inside_a_letter(text, limit):
    clusters = list(CharacterBreaker(text, "root"))
    borders = {0, *accumulate(map(len, clusters))}
    starts, ends = find_words(text, max_token_chars=limit)
    assert all(0 < end - start <= limit for start, end in zip(starts, ends, strict=True))
    if max(map(len, clusters), default=0) <= limit:
        assert {*starts.tolist(), *ends.tolist()} <= borders


@given(texts, st.sampled_from([8, 64]))
def test_no_token_begins_or_ends_with_a_zero_width_character(text, limit):
    zero_width = {"\u00ad", "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u202e", "\0"}
    for word in words(text, max_token_chars=limit):
        assert ord(word[0]) not in INVISIBLE
        assert word[-1] not in zero_width


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufeffAngela\u200b Merkel\u200d", "Angela|Merkel"),
        ("Angela\u200bMerkel", "Angela|Merkel"),
        ("\u2066Angela\u2069 \u200e(Merkel)\u200f", "Angela|(|Merkel|)"),
        ("Donau\u00addampf\u00ad", "Donau\u00addampf"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("\u3164\ufe0fa", "a"),
        ("\u0600\u0661", "\u0600|\u0661"),
    ],
)
def test_zero_width_characters_belong_to_no_token_but_inside_a_word(text, expected):
    assert words(text) == expected.split("|")


def test_a_letter_is_not_cut_from_its_marks_unless_it_is_too_long_itself():
    assert words("e\u0301" * 5, max_token_chars=3) == ["e\u0301"] * 5
    assert [len(word) for word in words("e" + "\u0301" * 7, max_token_chars=3)] == [3, 3, 2]
    assert words("abc\u00addef", max_token_chars=6) == ["abc", "def"]


ENORMOUS = 50_000


@pytest.mark.parametrize(
    "text",
    [
        "x", "x.", "'", "n't", "-", "1,", "x\u200d", "\u200d", "\u0301", "\u30a2", "\u3042",
        "\u0e01", "\u0e01\u0301", "\u4e2d", "\u1780\u17d2", "\u1000", "\U0001f468\u200d", "&A",
    ],
)  # fmt: skip
def test_enormous_tokens_take_linear_time(text):
    started = time.process_time()
    starts, ends = find_words(text * (ENORMOUS // len(text)), max_token_chars=64)
    assert len(starts) == 0 or (ends - starts).max() <= 64
    # Measured: at most 0.2 s. A step for each pair of characters, 2.5e9 of them, takes minutes.
    assert time.process_time() - started < 10
