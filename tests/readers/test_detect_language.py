import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkner_ray.config.languages import Language, parse_language
from linkner_ray.readers.detect_language import (
    count_languages,
    find_unwanted_language,
    language_of,
)

ENGLISH = "The committee will meet again in the spring to discuss the results of the election."
GERMAN = "Die Kommission wird im Fr\u00fchjahr erneut \u00fcber die Ergebnisse der Wahl beraten."
CHINESE = (
    "\u59d4\u5458\u4f1a\u5c06\u4e8e\u660e\u5e74\u6625\u5929\u518d\u6b21\u5f00\u4f1a\uff0c"
    "\u8ba8\u8bba\u8fd9\u6b21\u9009\u4e3e\u7684\u7ed3\u679c\u3002"
)


@pytest.mark.parametrize(
    ("text", "said", "language"),
    [
        (ENGLISH, None, "en"),
        (GERMAN, "und", "de"),
        (GERMAN, "no language", "de"),
        (GERMAN, "fra_Latn", "fr"),  # what the shard says counts
        (CHINESE, None, "zh_Hans"),
        (ENGLISH.replace(" ", "\0\x07 \ufdd0"), None, "en"),  # as CLD2 alone refuses it
        ("", None, "und"),
        ("42 17:30", None, "und"),
    ],
)
def test_a_language_is_said_by_the_shard_or_detected(text, said, language):
    assert language_of(text, said).tag == language


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_no_text_raises(text):
    language_of(text, None)


@pytest.mark.parametrize(
    ("said", "wanted", "reason"),
    [
        ("eng_Latn", ["en"], None),
        ("deu_Latn", ["en"], "language_de"),
        ("deu_Latn", ["en", "de"], None),
        (None, ["de"], "language_en"),
        ("zho_Hans", ["zh_Hant", "en"], "language_zh_Hans"),
        ("srp_Cyrl", ["en"], "language_sr"),
    ],
)
def test_what_is_not_wanted_has_its_language_as_reason(said, wanted, reason):
    found = find_unwanted_language(ENGLISH, said, tuple(map(parse_language, wanted)))
    assert found == reason


def test_what_cannot_be_told_is_read_on_request():
    assert find_unwanted_language("42", None, (Language("en"),)) == "language_und"
    assert find_unwanted_language("42", None, (Language("en"), Language("und"))) is None


def test_documents_are_counted_by_language():
    table = pa.table({"text": [ENGLISH, GERMAN, GERMAN, "1"], "lang": ["en-US", None, "ger", None]})
    assert count_languages(table) == {
        "documents_language_de": 2,
        "documents_language_en": 1,
        "documents_language_und": 1,
    }
