import base64
import random

import pytest

from linkner_ray.readers.no_language import find_no_language

NOISE = random.Random(0).randbytes(150_000)
BASE64 = base64.b64encode(NOISE).decode()
SENTENCE = "Angela Merkel met Siemens managers in Berlin. "


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (NOISE[:400].decode("windows-1252", "replace"), "garbled"),
        (NOISE[:400].decode("utf-8", "replace"), "garbled"),
        ("\ufffd", "garbled"),
        (BASE64, "no_language"),
        (base64.encodebytes(NOISE).decode(), "no_language"),  # 76 characters a line
        (SENTENCE * 1000 + BASE64, "no_language"),
        ("\u0436" * 3_000, "no_language"),
        ("\ud55c" * 3_000, "no_language"),
    ],
)
def test_what_is_no_language_has_a_reason(text, reason):
    assert find_no_language(text) == reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\r\n\f\v\x1c\x85\u2028",
        "Caf\ufffd M\ufffdller",  # few characters are lost
        ("Die Grunds\ufffdtze der B\ufffdrger in K\ufffdln gelten. " * 50)[:-20],  # 3 of 44
        "\u6771\u4eac\u306b\u4f4f\u3080" * 1_000,  # scripts that put no blank between words
        "\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e" * 1_000,
        "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft " * 3,
        SENTENCE * 10_000 + BASE64,
        "x" * 1_000,
        "https://example.org/a/path " * 500,
    ],
)
def test_language_has_none(text):
    assert find_no_language(text) is None
