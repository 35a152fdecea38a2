"""The errors a user can meet, each with the exit code its job ends with."""

import re
from typing import ClassVar

CUT = "***"
"""What stands where a secret was."""

_USER = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_QUERY = re.compile(
    r"([?&][^=&\s]*(?:key|token|secret|sig|password|credential)[^=&\s]*=)[^&\s'\"]+", re.IGNORECASE
)


def hide_secrets(text: str) -> str:
    """A text with what stands in its URLs for users, passwords, tokens and signatures cut."""
    return _QUERY.sub(rf"\1{CUT}", _USER.sub(CUT, text))


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as "1 unit" and "1,200 entities"."""
    if number != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun}"


def refuse_bare_string(name: str, given: object) -> None:
    """Refuse a string where a list of strings belongs: each of its letters would count as one.

    Raises:
        TypeError: If it is a string.
    """
    if isinstance(given, str | bytes):
        raise TypeError(f"{name} is one string, {given!r:.50}; put it in [ ]")


class LinknerError(Exception):
    """Base of all errors raised on purpose; its message says what was found, where, what to do."""

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        return hide_secrets(super().__str__())


class ConfigError(LinknerError):
    """Wrong before start: unknown key, impossible combination, a path that matches nothing."""

    exit_code = 2


class DataError(LinknerError):
    """A file or row we were given is bad; the message carries `path:line` or the document."""

    exit_code = 2


class ErrorLimitError(LinknerError):
    """The run finished and kept what is good, but more input was bad than `errors` allows."""

    exit_code = 3


class DriftError(LinknerError):
    """The night finished and is kept, but differs too much from the one before to be published."""

    exit_code = 3


class StartupError(LinknerError):
    """A model or engine did not come up, or does not answer as it should."""

    exit_code = 4


class ContractError(LinknerError):
    """One of our own tables breaks our own schema: a bug."""


class BackendError(LinknerError):
    """The LLM cannot be reached or refuses.

    Attributes:
        retryable: Whether the same request may succeed later (429, 5xx, lost connection).
    """

    exit_code = 4

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class LockLostError(LinknerError):
    """Another run took over the output while this one was silent; it stops before it finishes."""


class StoreError(LinknerError):
    """A disk or an object store fails or refuses; says nothing about the files in it."""

    exit_code = 4
