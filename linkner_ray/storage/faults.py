"""Errors of a store apart from errors of content: tried again for a minute, then the run stops.

A store that is overloaded or does not let us in says nothing about the files it holds. Libraries
raise a plain OSError for it, as they do for a file that is damaged, so the two are told apart here
and nowhere else.
"""

import errno
import io
import logging
import random
import time
from collections.abc import Callable
from functools import partial
from typing import IO, TypeVar, cast

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from linkner_ray.errors import LinknerError, StoreError

logger = logging.getLogger(__name__)

T = TypeVar("T")

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds between attempts, about a minute in all."""

_ABOUT_NAMES = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""What a store that works says of a name."""

_LOCAL_FAULTS = frozenset(
    {
        errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET,
        errno.EDQUOT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EIO, errno.EMFILE, errno.ENETDOWN,
        errno.ENETUNREACH, errno.ENFILE, errno.ENODEV, errno.ENOLCK, errno.ENOMEM, errno.ENOSPC,
        errno.ENOTCONN, errno.ENXIO, errno.EREMOTEIO, errno.EROFS, errno.ESHUTDOWN, errno.ESTALE,
        errno.ETIMEDOUT,
    }
)  # fmt: skip
"""What a disk, a network file system or a full process says; other numbers are about the file."""

_REFUSALS = frozenset(
    {
        errno.EACCES, errno.EDQUOT, errno.EINVAL, errno.ENOSPC, errno.ENOSYS, errno.EPERM,
        errno.EREMCHG, errno.EROFS,
    }
)  # fmt: skip
"""What does not pass by waiting. EINVAL is what s3fs makes of status 400."""

_REFUSING_STATUS = frozenset({400, 401, 403, 405, 501})
_NO_CREDENTIALS = ("NoCredentials", "PartialCredentials")
"""How the classes of botocore begin that are raised before anything is sent."""


def ask_store(
    operation: Callable[[], T],
    place: str,
    *,
    filesystem: AbstractFileSystem,
    is_ours: bool = False,
) -> T:
    """Do something on a store; if the store fails, again after a while.

    Args:
        operation: Can be done twice.
        place: File or folder in question, for the message.
        filesystem: Where it lies.
        is_ours: Whether the file is one of ours and not an input: then a lack of rights is an
            error of the store on a local disk, too.

    Raises:
        StoreError: If the store still fails after about a minute, or refuses.
        OSError: If it is about the file: missing, a folder, or, if not ours, not readable.
    """
    is_local = isinstance(filesystem, LocalFileSystem)
    waits = list(WAITS_S)
    while True:
        try:
            return operation()
        except Exception as error:  # each store has classes of its own
            if not _is_fault(error, is_local=is_local, is_ours=is_ours):
                raise
            refused = _is_refusal(error)
            if refused or not waits:
                raise StoreError(_message(place, error, refused=refused)) from error
            wait_s = waits.pop(0) * random.uniform(0.5, 1.5)  # noqa: S311 - spreads workers
            logger.warning("%s: %s; trying again in %.1f s", place, _words(error), wait_s)
            time.sleep(wait_s)


class StoreFile(io.RawIOBase):
    """A file of a store, open for reading: later reads are tried again as opening is."""

    def __init__(self, file: IO[bytes], ask: Callable[[Callable[[], bytes]], bytes]) -> None:
        self._file, self._ask = file, ask

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, or all that are left.

        Raises:
            StoreError: If the store fails.
        """
        position = self._file.tell()

        def read_here() -> bytes:
            self._file.seek(position)  # a failed attempt may have moved it
            return self._file.read(size)

        return self._ask(read_here)

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Fill a buffer as far as one read goes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """All that is left."""
        return self.read()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Whether `seek` works."""
        return self._file.seekable()

    def close(self) -> None:
        """Close the file below as well."""
        self._file.close()
        super().close()


def open_store_file(
    filesystem: AbstractFileSystem, path: str, *, cache: str | None = None, is_ours: bool = False
) -> IO[bytes]:
    """Open a file for reading, with seeking; the arguments are those of `open_file`, `ask_store`.

    Raises:
        StoreError: If the store fails.
        OSError: If it is about the file, see `ask_store`.
    """
    plain = cache is None or isinstance(filesystem, LocalFileSystem)
    options = {} if plain else {"cache_type": cache}
    file = ask_store(
        lambda: filesystem.open(path, "rb", **options), path, filesystem=filesystem, is_ours=is_ours
    )
    ask = partial(ask_store, place=path, filesystem=filesystem, is_ours=is_ours)
    return cast(IO[bytes], StoreFile(file, ask))


def _is_fault(error: Exception, *, is_local: bool, is_ours: bool) -> bool:
    """Whether an error is one of the store and not of the file or of this program."""
    if isinstance(error, LinknerError):
        return False
    if is_local:
        no_right = is_ours and isinstance(error, PermissionError)
        return no_right or (isinstance(error, OSError) and error.errno in _LOCAL_FAULTS)
    if isinstance(error, _ABOUT_NAMES):
        return False
    return isinstance(error, OSError) or type(error).__module__ != "builtins"


def _is_refusal(error: Exception) -> bool:
    """Whether waiting would not help."""
    if isinstance(error, PermissionError):
        return True
    response = getattr(error, "response", None)
    status = getattr(error, "status", None) or getattr(response, "status_code", None)
    return (
        getattr(error, "errno", None) in _REFUSALS
        or status in _REFUSING_STATUS
        or type(error).__name__.startswith(_NO_CREDENTIALS)
    )


def _message(place: str, error: Exception, *, refused: bool) -> str:
    if refused:
        return (
            f"{place}: the store refuses: {_words(error)}; look at credentials, rights and free "
            "space, then run the same command: what is done stays"
        )
    return (
        f"{place}: the store fails, after {len(WAITS_S) + 1} attempts within about "
        f"{sum(WAITS_S):.0f} s: {_words(error)}; run the same command when it works again: what "
        "is done stays"
    )


def _words(error: Exception) -> str:
    """An error with the code that a store gave it, such as SlowDown, where the text lacks it."""
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text if not code or code in text else f"{code}: {text}"
