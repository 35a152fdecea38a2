"""The language of a document: what its shard says, else what CLD2 detects."""

import re
from collections import Counter

import pyarrow as pa

from linkner_ray.config.languages import UNDETERMINED, Language, parse_language
from linkner_ray.runs.counters import LANGUAGE_COUNTER, SKIPPED_LANGUAGE

_MAX_CHARS = 100_000
"""Characters of a document that are looked at."""

REFUSED = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(
        f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
    )
    + "]"
)
"""Controls and characters that Unicode has set aside, for which CLD2 gives no answer."""


def language_of(text: str, said: str | None) -> Language:
    """The language that a shard says, a code in any common form, else the detected one."""
    language = UNDETERMINED if said is None else parse_language(said)
    return _detect(text) if language == UNDETERMINED else language


def _detect(text: str) -> Language:
    import pycld2  # here, since a plan imports this module and detects nothing

    try:
        allowed = REFUSED.sub(" ", text[:_MAX_CHARS])
        is_reliable, _, found = pycld2.detect(allowed, isPlainText=True)
    except pycld2.error:
        return UNDETERMINED
    code = found[0][1]
    if not is_reliable:
        return UNDETERMINED
    return Language("zh", "Hans") if code == "zh" else parse_language(code)


def find_unwanted_language(text: str, said: str | None, wanted: tuple[Language, ...]) -> str | None:
    """Why a document is in none of the languages wanted, as a word to count by; None if it is."""
    language = language_of(text, said)
    if language.is_one_of(wanted):
        return None
    by_script = any(language.code == other.code for other in wanted)
    return f"{SKIPPED_LANGUAGE}{language.tag if by_script else language.code}"


def count_languages(table: pa.Table) -> dict[str, int]:
    """Counters of documents by language; the table has columns `text` and `lang`."""
    columns = zip(table["text"].to_pylist(), table["lang"].to_pylist(), strict=True)
    found = Counter(language_of(text, said).code for text, said in columns)
    return {f"{LANGUAGE_COUNTER}{code}": count for code, count in sorted(found.items())}
