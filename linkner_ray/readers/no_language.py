"""Text that is no language: bytes read as characters, and blobs such as base64.

A model would find entities in both, and an LLM would be paid to look at them.
"""

import re

from linkner_ray.unread import SPACED

_DAMAGED = re.compile("[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufffd]")
"""Replacement characters, and control characters that are no blanks."""

_MAX_DAMAGED = 3
_MAX_DAMAGED_SHARE = 0.08
"""German whose umlauts were lost has 0.02; binary has 0.1 as windows-1252 and 0.5 as UTF-8."""

_BLOB = re.compile(f"(?<![{SPACED}])[{SPACED}]{{60,}}")
"""A run without a blank in scripts that put one between words. Base64 in a mail has lines of 64 or
76 characters; words in these scripts, and most addresses of pages, are shorter than the bound."""

_MAX_BLOB_CHARS = 1_000
_MAX_BLOB_SHARE = 0.5


def find_no_language(text: str) -> str | None:
    """Why a text is no language, as a short word to count by: garbled or no_language."""
    num_damaged = len(_DAMAGED.findall(text))
    is_few = num_damaged <= _MAX_DAMAGED and num_damaged < len(text)
    if not is_few and num_damaged > _MAX_DAMAGED_SHARE * len(text):
        return "garbled"
    if len(text) > _MAX_BLOB_CHARS:
        num_blob = sum(map(len, _BLOB.findall(text)))
        if num_blob > max(_MAX_BLOB_CHARS, _MAX_BLOB_SHARE * len(text)):
            return "no_language"
    return None
