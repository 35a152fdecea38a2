"""Characters of a page as browsers read them: the WHATWG Encoding standard.

Python's codecs take a label such as `shift_jis` for a narrower set of characters than pages use,
and its registry also knows codecs that are no text encodings; webencodings knows the standard's
labels alone. Nothing raises here, whatever the page or its label is.
"""

import codecs
import re

import webencodings
from resiliparse.parse.encoding import detect_encoding
from webencodings import Encoding

_META_BYTES = 1024
_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_META = re.compile(
    rb"<meta\b[^>]*?\bcharset\s*=\s*[\"']?\s*([^\s\"'/>;]+)"
    rb"|^\s*<\?xml\b[^>]*?\bencoding\s*=\s*[\"']([^\"'>]+)",
    re.IGNORECASE,
)
_FALLBACK = "windows-1252"
_ESCAPE_TO_TWO_BYTES = b"\x1b$"
_DETECTED = {"iso2022-jp": "iso-2022-jp", "utf-16-le": "utf-16le", "utf-16-be": "utf-16be"}
"""Names of the detector that are no labels of the standard."""


def decode_page(page: bytes, label: str | None, *, is_html: bool) -> str:
    """Text of a page; what its encoding cannot read becomes U+FFFD.

    The encoding goes by byte order mark, by `label`, the charset of its header, by the page itself
    (`<meta>`, XML declaration), and then by detection: UTF-8 wherever it fits.
    """
    encoding = _lookup(label) or (_encoding_inside(page) if is_html else None) or _detect(page)
    errors = _EUC_JP_ERRORS if encoding.name == "euc-jp" else "replace"
    text, _ = webencodings.decode(page, encoding, errors)
    return text


def _lookup(label: str | None) -> Encoding | None:
    encoding = webencodings.lookup(label) if label and label.isascii() else None
    # The standard's decoder of both is the same; Python's gbk is narrower.
    return webencodings.lookup("gb18030") if encoding and encoding.name == "gbk" else encoding


def _encoding_inside(page: bytes) -> Encoding | None:
    """What the beginning of a page says of its encoding."""
    if page.startswith((b"<\0", b"\0<")):
        return webencodings.lookup("utf-16le" if page[:1] == b"<" else "utf-16be")
    found = _META.search(_COMMENT.sub(b"", page[:_META_BYTES]))
    if found is None:
        return None
    encoding = _lookup((found[1] or found[2]).decode("ascii", "replace"))
    if encoding is None:
        return None
    # Whoever reads the name in ASCII does not read UTF-16.
    other = {"utf-16le": "utf-8", "utf-16be": "utf-8", "x-user-defined": _FALLBACK}
    return webencodings.lookup(other.get(encoding.name, encoding.name))


def _detect(page: bytes) -> Encoding:
    if _ESCAPE_TO_TWO_BYTES not in page:
        try:
            page.decode()
        except UnicodeDecodeError:
            pass
        else:
            return webencodings.UTF8
    name = (detect_encoding(page, html5_compatible=False) or _FALLBACK).replace("_", "-")
    return _lookup(_DETECTED.get(name, name)) or webencodings.lookup(_FALLBACK)


def _by_way_of_shift_jis(error: UnicodeDecodeError) -> tuple[str, int]:
    """A character of the NEC and IBM rows, which the standard's euc-jp has and Python's lacks."""
    pair = error.object[error.start : error.start + 2]
    if len(pair) == 2 and min(pair) >= 0xA1 and max(pair) <= 0xFE:
        row, cell = pair[0] - 0xA0, pair[1] - 0xA0
        lead = (row - 1) // 2 + (0x81 if row <= 62 else 0xC1)
        trail = cell + 0x9E if row % 2 == 0 else cell + 0x3F + (cell >= 64)
        text = bytes((lead, trail)).decode("cp932", "replace")
        return (text, error.start + 2) if len(text) == 1 else ("\ufffd", error.start + 2)
    return "\ufffd", error.end


_EUC_JP_ERRORS = "linkner-euc-jp"
codecs.register_error(_EUC_JP_ERRORS, _by_way_of_shift_jis)  # type: ignore[arg-type]
