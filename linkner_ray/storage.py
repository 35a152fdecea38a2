"""Folders local or on an object store, with writes that are whole or not there."""

import os
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from linkner_ray.fault_injection import fault_point

_HIDDEN = re.compile(r"\.(?P<name>.+)\.linkner-[0-9a-f]{32}")
"""How `Folder` names a file that is not whole yet; the name says whose it is."""

_ONE_PUT_BYTES = 5 * 2**30
"""S3 takes this much in one PUT; s3fs by itself sends from 100 MB on in parts, which a killed
process leaves lying about."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a file system, or a prefix of an object store."""

    filesystem: fsspec.AbstractFileSystem
    root: str

    @classmethod
    def at(cls, url: str) -> "Folder":
        """Open a folder by path or URL, such as `out/` or `s3://bucket/prefix`."""
        filesystem, root = url_to_fs(url)
        return cls(filesystem, root.rstrip("/"))

    @property
    def is_local(self) -> bool:
        """Whether files lie on this machine's file system."""
        return isinstance(self.filesystem, LocalFileSystem)

    def path(self, name: str) -> str:
        """Path of a file in the folder, as the file system wants it."""
        return f"{self.root}/{name}"

    def below(self, name: str) -> "Folder":
        """A sub-folder."""
        return Folder(self.filesystem, self.path(name))

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        return bool(self.filesystem.exists(self.path(name)))

    def names(self, below: str, pattern: str = "*") -> list[str]:
        """Names of the files in a sub-folder that match a pattern, sorted.

        Hidden names, such as those of writes that never ended, are left out.
        """
        folder = self.path(below)
        self.filesystem.invalidate_cache(folder)
        if not self.filesystem.exists(folder):
            return []
        names = (PurePosixPath(path).name for path in self.filesystem.ls(folder, detail=False))
        return sorted(n for n in names if PurePosixPath(n).match(pattern) and not n.startswith("."))

    def entries(self) -> list[str]:
        """Names of everything that lies directly in the folder, hidden or not, sorted."""
        self.filesystem.invalidate_cache(self.root)
        if not self.filesystem.exists(self.root):
            return []
        paths = self.filesystem.ls(self.root, detail=False)
        return sorted(PurePosixPath(path).name for path in paths if path.rstrip("/") != self.root)

    def read_bytes(self, name: str) -> bytes:
        """Whole content of a file."""
        return bytes(self.filesystem.cat_file(self.path(name)))

    def open(self, name: str) -> Any:  # noqa: ANN401 - fsspec declares no common file type
        """Open a file for reading, with seeking."""
        return self.filesystem.open(self.path(name), "rb")

    def write_whole(self, name: str, content: bytes) -> None:
        """Write a file so that a reader sees all of it or none.

        A file system gets a hidden file that is synced and renamed; an object store gets one PUT.
        Writing the same name again replaces the file.
        """
        if not self.is_local:
            self.filesystem.pipe_file(self.path(name), content, **self._one_put())
            return
        hidden = self._write_hidden(name, content)
        fault_point("rename")
        hidden.replace(self.path(name))

    def create_whole(self, name: str, content: bytes) -> bool:
        """Write a file as `write_whole` does, unless there is one of that name.

        Of several writers of one name exactly one succeeds: a file system links the hidden file to
        the name, an object store gets one PUT on condition.

        Returns:
            Whether the file was written; False if the name was taken.

        Raises:
            OSError: If it cannot be written, for instance because a file system has no hard links.
        """
        if self.is_local:
            hidden = self._write_hidden(name, content)
            try:
                os.link(hidden, self.path(name))
            except FileExistsError:
                return False
            finally:
                hidden.unlink()
            return True
        try:
            self.filesystem.pipe_file(self.path(name), content, mode="create", **self._one_put())
        except OSError:  # stores differ in what they call a name that is taken
            self.filesystem.invalidate_cache()
            if not self.exists(name):
                raise
            return False
        return True

    def move(self, name: str, new_name: str) -> None:
        """Give a file another name in the folder.

        Raises:
            OSError: If that is not possible.
        """
        if self.is_local:
            Path(self.path(new_name)).parent.mkdir(parents=True, exist_ok=True)
        self.filesystem.mv(self.path(name), self.path(new_name))

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already counts as removed."""
        with suppress(FileNotFoundError):
            self.filesystem.rm_file(self.path(name))

    def remove_hidden(self, below: str, *, up_to: str | None = None) -> int:
        """Remove what writes that never ended left in a sub-folder of a file system.

        Args:
            below: The sub-folder; "" for the folder itself.
            up_to: Last name, in their order, whose writes are meant; default: all.

        Returns:
            How many there were.
        """
        folder = Path(self.path(below))
        if not self.is_local or not folder.is_dir():
            return 0
        hidden = [
            path
            for path in folder.iterdir()
            if (found := _HIDDEN.fullmatch(path.name)) and (up_to is None or found["name"] <= up_to)
        ]
        for path in hidden:
            path.unlink(missing_ok=True)
        return len(hidden)

    def abort_uploads(self, below: str, is_ours: Callable[[str], bool]) -> int:
        """Abort multipart uploads that were begun in a sub-folder on S3 and never completed.

        Readers do not see them, but they are stored and paid for.

        Args:
            below: The sub-folder.
            is_ours: Whether a file name in it is one that the caller writes. Uploads of other
                names may be another program's and are left alone.

        Returns:
            How many were aborted; 0 for what is not S3.
        """
        if not self._is_s3:
            return 0
        bucket, _, prefix = self.path(f"{below}/").partition("/")
        place = {"Bucket": bucket, "Prefix": prefix}
        marker: dict[str, str] = {}
        aborted = 0
        while True:
            page = self.filesystem.call_s3("list_multipart_uploads", **place, **marker)
            for upload in page.get("Uploads", []):
                if not is_ours(upload["Key"].removeprefix(prefix)):
                    continue
                name = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
                with suppress(FileNotFoundError):  # completed or aborted just now
                    self.filesystem.call_s3("abort_multipart_upload", Bucket=bucket, **name)
                    aborted += 1
            if not page.get("IsTruncated"):
                return aborted
            marker = {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }

    @property
    def _is_s3(self) -> bool:
        protocol = self.filesystem.protocol
        return "s3" in ((protocol,) if isinstance(protocol, str) else protocol)

    def _one_put(self) -> dict[str, int]:
        """What keeps s3fs from sending a file in parts; it does so from twice this size."""
        return {"chunksize": _ONE_PUT_BYTES // 2} if self._is_s3 else {}

    def _write_hidden(self, name: str, content: bytes) -> Path:
        """Write and sync a hidden file beside where a name will be."""
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden = target.with_name(f".{target.name}.linkner-{uuid.uuid4().hex}")
        with hidden.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        return hidden


def read_file(url: str) -> bytes:
    """Whole content of one file, local or with a scheme.

    Raises:
        OSError: If it cannot be read.
    """
    filesystem, path = url_to_fs(url)
    return bytes(filesystem.cat_file(path))
