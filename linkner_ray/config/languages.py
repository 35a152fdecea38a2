"""Codes of languages in all common forms: `en`, `eng`, `eng_Latn`, `en-US`, `ger`, `cmn_Hani`."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from pydantic import BeforeValidator

_CODE = re.compile(
    r"(?:__label__)?([a-z]{2,3})(?:[-_]([a-z]{4}))?(?:[-_.@][-_.@a-z0-9]*)?",
    re.ASCII | re.IGNORECASE,
)
"""Language, script, and what may follow: a region, a variant, an encoding."""

_NOT_ONE_LANGUAGE = frozenset({"und", "mis", "mul", "zxx"})
_NORWEGIAN = {"nb": "no", "nn": "no"}
_SCRIPTS_OF_BOTH = frozenset({"Hani", "Zyyy", "Zxxx", "Zzzz"})
"""What a label says that does not tell one script from another."""


class Language(NamedTuple):
    """A language, and its script where that is known."""

    code: str
    """ISO 639-1 where there is one, else ISO 639-3; `und` for what cannot be told."""

    script: str | None = None
    """ISO 15924."""

    @property
    def tag(self) -> str:
        """Such as `en` or `zh_Hant`."""
        return f"{self.code}_{self.script}" if self.script else self.code

    def is_one_of(self, wanted: Iterable["Language"]) -> bool:
        """Whether it is wanted; a script counts where both sides say one."""
        return any(
            self.code == other.code
            and (self.script == other.script or None in (self.script, other.script))
            for other in wanted
        )


UNDETERMINED = Language("und")


@lru_cache(maxsize=4096)
def parse_language(code: str) -> Language:
    """The language that a code stands for; UNDETERMINED where it names none.

    Codes of ISO 639-1, 639-2 and 639-3 are taken, with or without script, region or the
    `__label__` of fastText. A variety goes by the language that is commonly meant: `cmn` is `zh`,
    `arb` is `ar`, `nob` is `no`. Of a list the first counts.
    """
    from langcodes import Language as Tag  # here, since most configs name no language
    from langcodes import standardize_tag

    found = _CODE.fullmatch(re.split("[,;|]", code, maxsplit=1)[0].strip())
    if found is None:
        return UNDETERMINED
    tag = Tag.get(standardize_tag("-".join(filter(None, found.groups())), macro=True))
    language = tag.language or "und"
    if language in _NOT_ONE_LANGUAGE or not Tag.make(language).is_valid():
        return UNDETERMINED
    script = tag.script if tag.script not in _SCRIPTS_OF_BOTH else None
    return Language(_NORWEGIAN.get(language, language), script)


def normalise_languages(codes: Iterable[object], key: str) -> tuple[str, ...]:
    """Codes of a config's key as `Language.tag`, sorted, each once.

    False is `no`, which YAML 1.1 takes for it.

    Raises:
        ValueError: If one is no code of a language.
    """
    languages = set()
    for code in codes:
        text = "no" if code is False else str(code)
        language = parse_language(text)
        if language == UNDETERMINED and text.strip().lower() != UNDETERMINED.code:
            raise ValueError(
                f"{key}: '{text}' is no language; write ISO 639 codes such as en, deu or zh_Hant, "
                "and und for what cannot be told"
            )
        languages.add(language.tag)
    return tuple(sorted(languages))


def codes_of(key: str) -> BeforeValidator:
    """Mark of a list of languages in a config; messages name its key."""

    def normalise(value: object) -> object:
        return normalise_languages(value, key) if isinstance(value, list | tuple) else value

    return BeforeValidator(normalise)
