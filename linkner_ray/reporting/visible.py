"""Text from the web made safe to look at, on a page or a terminal."""

_BIDI_CONTROLS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))

_SIGNS = {
    **{code: chr(0x2400 + code) for code in range(0x20)},
    0x7F: "\N{SYMBOL FOR DELETE}",
    **dict.fromkeys(range(0x80, 0xA0), "\N{REPLACEMENT CHARACTER}"),
    **{code: f"[U+{code:04X}]" for code in _BIDI_CONTROLS},
}
_SIGNS_BUT_WHITE_SPACE = {code: s for code, s in _SIGNS.items() if chr(code) not in "\t\n\r"}


def make_visible(text: str, *, one_line: bool = False) -> str:
    """Replace control characters, and those that turn the direction of text, by signs.

    A terminal then gets no escape sequence, and text is shown in the order that it has. On one line
    tabs and line breaks become signs, too.
    """
    return text.translate(_SIGNS if one_line else _SIGNS_BUT_WHITE_SPACE)
