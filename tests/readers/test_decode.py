import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.readers.decode import decode_page


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("GB2312", "gb18030", "\u6731\u9555\u57fa \u9648\u5929\u6865"),
        ("gb_2312-80", "gb18030", "\u9555\U00020087"),
        ("Shift_JIS", "cp932", "\u3231\u9ad9\u5cf6\u5c4b \u2460"),
        ("x-sjis", "cp932", "\u7e8a"),
        ("euc-kr", "cp949", "\ud3b2\uc2dc\ub9e8 \ub620\ubc29\uac01\ud558"),
        ("KS_C_5601-1987", "cp949", "\ub620"),
        ("big5", "big5hkscs", "\u9999\u6e2f\u5605\u4eba\u55ba\u5ea6"),
        ("iso-2022-jp", "iso2022_jp", "\u6771\u4eac"),
        ("latin1", "cp1252", "\u201cBj\u00f6rn\u201d \u20ac5 \u2013"),
        ("us-ascii", "cp1252", "\u2019"),
        ("ISO-8859-9", "cp1254", "\u201cG\u00fcne\u015f\u201d"),
        ("tis-620", "cp874", "\u201c\u0e01\u0e23\u0e38\u0e07\u201d"),
        ("windows-874", "cp874", "\u2026\u0e01"),
        ("iso-8859-8-i", "iso8859-8", "\u05e9\u05dc\u05d5\u05dd"),
        ("x-mac-cyrillic", "mac-cyrillic", "\u0418\u0432\u0430\u043d"),
        ("koi8-ru", "koi8-u", "\u0407\u0436\u0430\u043a"),
        ("utf-16", "utf-16-le", "J\u00f6rg"),
        (' \t"UTF8', "utf-8", "J\u00f6rg"),
    ],
)
def test_a_label_means_what_browsers_take_it_for(label, codec, text):
    assert decode_page(text.encode(codec), label.strip(' \t"'), is_html=True) == text
    if "utf-16" not in label:
        page = f'<!-- charset=x --><META content="text/html; charset={label}'.encode() + b'">'
        assert decode_page(page + text.encode(codec), None, is_html=True).endswith(text)


def test_the_rows_of_nec_and_ibm_are_read_in_euc_jp():
    # Row 13 cell 1 and row 92 cell 66, which Python's codec lacks, and a lone byte
    page = "\u5ca1".encode("euc-jp") + b"\xad\xa1 \xfc\xe2 \xad"
    assert decode_page(page, "euc-jp", is_html=False) == "\u5ca1\u2460 \u9ad9 \ufffd"


@pytest.mark.parametrize(
    ("mark", "codec"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_a_byte_order_mark_wins_over_header_and_page(mark, codec):
    text = "<meta charset=koi8-r>\u0141\u00f3d\u017a"
    assert decode_page(mark + text.encode(codec), "windows-1251", is_html=True) == text


def test_the_header_wins_over_the_page_and_the_page_over_detection():
    page = "<meta charset=iso-8859-5>\u041c".encode("windows-1251")
    assert decode_page(page, "windows-1251", is_html=True)[-1] == "\u041c"
    assert decode_page(page, None, is_html=True)[-1] == page[-1:].decode("iso-8859-5")
    assert decode_page(b"<meta charset=koi8-r>\xc3\xa9", None, is_html=False)[-1] == "\u00e9"


@pytest.mark.parametrize(
    "label",
    [None, "undefined", "base64", "hex", "idna", "punycode", "zlib", "unicode_escape", "mbcs",
     "ut\0f-8", "utf-7", "", " ", "\u0456so", "x" * 100_000, "\ud800"],
)  # fmt: skip
def test_a_label_that_names_nothing_is_passed_over(label):
    page = "<p>Zo\u00eb lebt in K\u00f6ln".encode()
    assert decode_page(page, label, is_html=True) == page.decode()


def test_what_cannot_be_decoded_costs_no_other_character():
    page = "\u6731\u9555\u57fa".encode("gbk") + b"\xff" + "\u9648".encode("gbk")
    assert decode_page(page, "gb2312", is_html=True) == "\u6731\u9555\u57fa\ufffd\u9648"
    assert decode_page(b"K\xf6ln \xc3\xa9", "utf-8", is_html=True) == "K\ufffdln \u00e9"


@pytest.mark.parametrize("codec", ["windows-1251", "iso2022_jp", "utf-16-le"])
def test_without_any_label_the_encoding_is_detected(codec):
    text = (
        "\u6771\u4eac\u306b\u4f4f\u3080\u5c71\u7530"
        if codec == "iso2022_jp"
        else (
            "\u041c\u0430\u0440\u0438\u044f \u041a\u044e\u0440\u0438 \u0436\u0438\u043b\u0430 "
            "\u0432 \u041f\u0430\u0440\u0438\u0436\u0435. "
        )
    )
    page = f"<p>{text * 9}"
    assert decode_page(page.encode(codec), None, is_html=True) == page


def test_a_page_that_names_utf_16_in_ascii_is_utf_8():
    page = "<meta charset=utf-16>\u00e9".encode()
    assert decode_page(page, None, is_html=True) == page.decode()


def test_an_xml_declaration_names_the_encoding():
    page = b'<?xml version="1.0" encoding="iso-8859-2"?><p>\xa3'
    assert decode_page(page, None, is_html=True)[-1] == "\u0141"


@given(page=st.binary(max_size=60), label=st.one_of(st.none(), st.text(max_size=12)))
def test_nothing_raises_and_the_text_can_be_encoded(page, label):
    decode_page(page, label, is_html=True).encode()
