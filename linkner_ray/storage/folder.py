"""Folders local or on an object store, with writes that are whole or not there."""

import io
import os
import re
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from linkner_ray.errors import ConfigError
from linkner_ray.fault_injection import fault_point
from linkner_ray.storage.faults import ask_store, open_store_file

T = TypeVar("T")

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
        """Open a folder by path or URL, such as `out/` or `s3://bucket/prefix`.

        Raises:
            ConfigError: If it is empty, its scheme is unknown or its server cannot be reached.
        """
        if not url:
            raise ConfigError("a path is empty; name a folder, or . for the one you are in")
        try:
            filesystem, root = url_to_fs(url)
        except (ValueError, ImportError, OSError) as error:
            raise ConfigError(f"{url}: cannot be opened: {error}; correct the path") from error
        return cls(filesystem, root.rstrip("/"))

    @property
    def is_local(self) -> bool:
        """Whether files lie on this machine's file system."""
        return isinstance(self.filesystem, LocalFileSystem)

    def check_writable(self) -> None:
        """Check that a local folder is there or can be made, and files in it; writes nothing.

        Raises:
            ConfigError: If a file stands in its place, or this user has no right to write.
        """
        if not self.is_local:
            return
        found = Path(self.root or "/")
        while not os.access(found, os.F_OK):
            found = found.parent
        if not found.is_dir():
            raise ConfigError(f"{found} is a file; name a folder")
        if not os.access(found, os.W_OK | os.X_OK):
            raise ConfigError(
                f"{self.root}: this user may not write into {found}; mend its rights, or name "
                "another folder"
            )

    def path(self, name: str) -> str:
        """Path of a file in the folder, as the file system wants it."""
        return f"{self.root}/{name}"

    def below(self, name: str) -> "Folder":
        """A sub-folder."""
        return Folder(self.filesystem, self.path(name))

    def exists(self, name: str) -> bool:
        """Whether a file is there, or a folder."""
        return self._type(name) is not None

    def is_folder(self, name: str = "") -> bool:
        """Whether there is a folder of that name; default: this one."""
        return self._type(name) == "directory"

    def is_file(self, name: str = "") -> bool:
        """Whether there is a file of that name; default: in place of this folder."""
        return self._type(name) == "file"

    def _type(self, name: str) -> str | None:
        # `exists` and `isdir` of fsspec also say no when a store fails.
        path = self.path(name) if name else self.root
        try:
            return str(self._ask(lambda: self.filesystem.info(path), path)["type"])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _ask(self, operation: Callable[[], T], path: str) -> T:
        return ask_store(operation, path, filesystem=self.filesystem, is_ours=True)

    def names(self, below: str, pattern: str = "*") -> list[str]:
        """Names of the files in a sub-folder that match a pattern, sorted.

        Hidden names, such as those of writes that never ended, are left out.
        """
        names = (PurePosixPath(path).name for path in self._list(self.path(below)))
        return sorted(n for n in names if PurePosixPath(n).match(pattern) and not n.startswith("."))

    def entries(self) -> list[str]:
        """Names of everything that lies directly in the folder, hidden or not, sorted."""
        paths = self._list(self.root)
        return sorted(PurePosixPath(path).name for path in paths if path.rstrip("/") != self.root)

    def versions(self) -> dict[str, str]:
        """What tells each file from earlier ones of its name, by name; hidden files are left out.

        One listing, unlike `version`. Files may come and go meanwhile.
        """
        if self.is_local:
            found = _local_versions(Path(self.root))
        else:
            found = {
                PurePosixPath(info["name"]).name: "-".join(
                    str(info.get(key)) for key in ("size", "ETag", "mtime", "LastModified")
                )
                for info in self._list(self.root, detail=True)
            }
        return {name: found[name] for name in sorted(found) if not name.startswith(".")}

    def _list(self, path: str, *, detail: bool = False) -> list[Any]:
        """Paths in a folder, or what is known of each; none where there is no such folder."""
        self.forget_listings()
        try:
            return list(self._ask(lambda: self.filesystem.ls(path, detail=detail), path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def forget_listings(self) -> None:
        """Forget what this process knows of a store, since others write to it."""
        self.filesystem.invalidate_cache()

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: If it is not there.
        """
        path = self.path(name)
        return int(self._ask(lambda: self.filesystem.size(path), path))

    def read_bytes(self, name: str) -> bytes:
        """Whole content of a file.

        Raises:
            FileNotFoundError: If it is not there.
        """
        path = self.path(name)
        return bytes(self._ask(lambda: self.filesystem.cat_file(path), path))

    def version(self, name: str) -> str:
        """What tells a file from earlier ones of its name."""
        path = self.path(name)
        return str(self._ask(lambda: self.filesystem.ukey(path), path))

    def upload(self, local: Path, name: str) -> None:
        """Copy a local file into the folder, so that a reader sees all of it or none."""
        path = self.path(name)
        if self.is_local:
            with local.open("rb") as file:
                self._ask(lambda: self._write_hidden(name, file).replace(path), path)
            return
        put = partial(self.filesystem.put_file, str(local), path, **self._one_put())
        self._ask(put, path)

    def download(self, name: str, local: Path) -> None:
        """Copy a file of the folder to this machine."""
        path = self.path(name)
        self._ask(lambda: self.filesystem.get_file(path, str(local)), path)

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading, with seeking."""
        return open_store_file(self.filesystem, self.path(name), is_ours=True)

    def write_whole(self, name: str, content: bytes) -> None:
        """Write a file so that a reader sees all of it or none.

        A file system gets a hidden file that is synced and renamed; an object store gets one PUT.
        Writing the same name again replaces the file.
        """
        path = self.path(name)
        if not self.is_local:
            put = partial(self.filesystem.pipe_file, path, content, **self._one_put())
            self._ask(put, path)
            return
        hidden = self._ask(lambda: self._write_hidden(name, io.BytesIO(content)), path)
        fault_point("rename")
        self._ask(lambda: hidden.replace(path), path)

    def create_whole(self, name: str, content: bytes) -> bool:
        """Write a file as `write_whole` does, unless the name is taken; whether it was written.

        Of several writers of one name exactly one succeeds: a file system links the hidden file to
        the name, an object store gets one PUT on condition. On a store a name that holds this very
        content counts as written: a PUT may succeed though its reply is lost.

        Raises:
            OSError: If it cannot be written, for instance because a file system has no hard links.
        """
        path = self.path(name)
        if self.is_local:
            hidden = self._ask(lambda: self._write_hidden(name, io.BytesIO(content)), path)
            try:
                os.link(hidden, path)
            except FileExistsError:
                return False
            finally:
                hidden.unlink()
            return True
        return self._ask(lambda: self._create(name, content), path)

    def _create(self, name: str, content: bytes) -> bool:
        put = partial(self.filesystem.pipe_file, self.path(name), content, mode="create")
        try:
            put(**self._one_put())
        except OSError:  # stores differ in what they call a name that is taken
            self.forget_listings()
            try:
                return bytes(self.filesystem.cat_file(self.path(name))) == content
            except FileNotFoundError:
                pass
            raise
        return True

    def move(self, name: str, new_name: str) -> None:
        """Give a file another name in the folder.

        Raises:
            OSError: If that is not possible.
        """
        path, new_path = self.path(name), self.path(new_name)
        if self.is_local:
            Path(new_path).parent.mkdir(parents=True, exist_ok=True)
        self._ask(lambda: self.filesystem.mv(path, new_path), path)

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already counts as removed."""
        path = self.path(name)
        with suppress(FileNotFoundError):
            self._ask(lambda: self.filesystem.rm_file(path), path)

    def remove_hidden(self, below: str, *, up_to: str | None = None) -> int:
        """Remove what writes that never ended left in a sub-folder of a file system; how many.

        Only those of names up to `up_to`, if one is given.
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

        Readers do not see them, but they are stored and paid for. Uploads of names that are not
        ours may be another program's and are left alone. Returns how many were aborted.
        """
        if not self._is_s3:
            return 0
        bucket, _, prefix = self.path(f"{below}/").partition("/")
        place = {"Bucket": bucket, "Prefix": prefix}
        marker: dict[str, str] = {}
        aborted = 0
        while True:
            look = partial(self.filesystem.call_s3, "list_multipart_uploads", **place, **marker)
            page = self._ask(look, prefix)
            for upload in page.get("Uploads", []):
                if not is_ours(upload["Key"].removeprefix(prefix)):
                    continue
                name = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
                abort = partial(self.filesystem.call_s3, "abort_multipart_upload", Bucket=bucket)
                with suppress(FileNotFoundError):  # completed or aborted just now
                    self._ask(partial(abort, **name), upload["Key"])
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

    def _write_hidden(self, name: str, content: IO[bytes]) -> Path:
        """Write and sync a hidden file beside where a name will be."""
        content.seek(0)  # of an earlier attempt
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden = target.with_name(f".{target.name}.linkner-{uuid.uuid4().hex}")
        with hidden.open("wb") as stream:
            shutil.copyfileobj(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        return hidden


def _local_versions(folder: Path) -> dict[str, str]:
    found = {}
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # gone since it was listed
                stat = entry.stat()
                found[entry.name] = f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}"
    return found


def read_file(url: str) -> bytes:
    """Whole content of one file, local or with a scheme.

    Raises:
        StoreError: If the store fails.
        OSError: If there is no such file, or it cannot be read.
    """
    place = Folder.at(url)
    filesystem, path = place.filesystem, place.root
    return bytes(ask_store(lambda: filesystem.cat_file(path), path, filesystem=filesystem))


def open_file(url: str, *, cache: str | None = None) -> IO[bytes]:
    """Open one file for reading, local or with a scheme; later reads raise the same errors.

    Args:
        url: Path or URL.
        cache: How fsspec reads ahead on a store: "none", "readahead", ...; default: its own way.

    Raises:
        StoreError: If the store fails; worth starting the run again later.
        OSError: If it is about the file: missing, a folder, not readable on a local disk.
    """
    place = Folder.at(url)
    return open_store_file(place.filesystem, place.root, cache=cache)
