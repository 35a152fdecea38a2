import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from linkner_ray.config import InputConfig
from linkner_ray.config.languages import Language, parse_language
from linkner_ray.config.training import TrainingConfig

UNKNOWN = ["", " ", "und", "mul", "zxx", "xx", "english", "C", "zzzzz", "xx-Cyrl", "\u0131n"]


@pytest.mark.parametrize(
    ("language", "codes"),
    [
        (Language("en"), ["en", "EN", "eng", "eng_Latn", "en-US", "__label__eng_Latn"]),
        (Language("de"), ["deu", "ger", "de_DE.UTF-8", "deu,eng", " de;q=0.8"]),
        (Language("zh"), ["zh", "zho", "chi", "cmn", "cmn_Hani", "zh_TW"]),
        (Language("zh", "Hant"), ["zh-Hant-TW", "zho_Hant"]),
        (Language("sr", "Cyrl"), ["srp_Cyrl"]),
        (Language("ar"), ["arb_Arab", "ar"]),
        (Language("no"), ["no", "nb", "nno_Latn", "nob"]),
        (Language("he"), ["iw", "heb"]),
        (Language("und"), UNKNOWN),
    ],
)  # fmt: skip
def test_codes_of_all_common_forms_are_understood(language, codes):
    assert {code: parse_language(code) for code in codes} == dict.fromkeys(codes, language)


@settings(max_examples=50)
@given(st.text(max_size=12) | st.text("abcenz-_.@4 \u0131", max_size=12))
def test_no_code_raises(code):
    parse_language(code)


@pytest.mark.parametrize(
    ("language", "wanted", "is_wanted"),
    [
        ("en", ["de", "en"], True),
        ("und", ["en"], False),
        ("und", ["und"], True),
        ("zh_Hant", ["zh"], True),
        ("zh_Hant", ["zh_Hant"], True),
        ("zh_Hans", ["zh_Hant"], False),
        ("zh", ["zh_Hant"], True),
    ],
)
def test_a_script_counts_where_both_sides_say_one(language, wanted, is_wanted):
    assert parse_language(language).is_one_of(map(parse_language, wanted)) == is_wanted


def test_languages_of_a_config_are_known_by_what_they_mean():
    languages = InputConfig(paths=("x",), languages=["eng_Latn", "zho_Hant", "en", "und"]).languages
    assert languages == ("en", "und", "zh_Hant")
    assert InputConfig(paths=("x",), languages=[False]).languages == ("no",)  # YAML's `no`
    assert InputConfig(paths=("x",)).languages == ()
    assert TrainingConfig(languages=["deu"]).languages == ("de",)
    assert TrainingConfig().languages == ("en",)


def test_what_is_no_language_is_refused():
    with pytest.raises(ValidationError, match=r"input\.languages: 'english' is no language"):
        InputConfig(paths=("x",), languages=["english"])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([["score", ">", 0.5], ["a", "in", ["x", "y"]]],
         ((("score", ">", 0.5), ("a", "in", ("x", "y"))),)),
        ([[["score", ">", 1]], [["ok", "=", True]]], ((("score", ">", 1),), (("ok", "=", True),))),
        ([], ()),
    ],
)  # fmt: skip
def test_a_filter_is_a_list_of_conditions_or_of_such_lists(written, expected):
    config = InputConfig(paths=("x",), filter=written)
    assert config.filter == expected
    assert config.steps_by_key()["filter"] == "documents"


@pytest.mark.parametrize("written", [[["a", "~", 1]], [["a", "="]], "a > 1", [["a", "=", {}]]])
def test_a_filter_of_another_form_is_refused(written):
    with pytest.raises(ValidationError):
        InputConfig(paths=("x",), filter=written)
