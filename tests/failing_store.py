"""A file system that fails as scripted."""

import io

import fsspec
import pytest
from botocore.exceptions import ClientError
from fsspec.implementations.memory import MemoryFileSystem
from s3fs.errors import translate_boto_error

from linkner_ray.storage import faults


def s3_error(code):
    return translate_boto_error(ClientError({"Error": {"Code": code, "Message": "told"}}, "Get"))


class Scripted(MemoryFileSystem):
    """Raises what is in `script` before it does anything; None lets one operation pass."""

    protocol = "scripted"
    cachable = False
    script: list = []  # noqa: RUF012 - shared by all instances, emptied by the fixture
    asked: list = []  # noqa: RUF012
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("scripted://"))

    def _step(self, name):
        self.asked.append(name)
        error = self.script.pop(0) if self.script else None
        if error is not None:
            raise error

    def info(self, path, **kwargs):
        self._step("info")
        return super().info(path, **kwargs)

    def ls(self, path, detail=True, **kwargs):
        self._step("ls")
        return super().ls(path, detail=detail, **kwargs)

    def cat_file(self, path):
        self._step("cat_file")
        return bytes(self.store[self._strip_protocol(path)].getvalue())

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        self._step("pipe_file")
        super().pipe_file(path, value, mode=mode, **kwargs)

    def rm_file(self, path):
        self._step("rm_file")
        super().rm_file(path)

    def open(self, path, mode="rb", **options):
        if mode != "rb":
            return super().open(path, mode, **options)
        self._step("open")
        return ScriptedFile(self, self.store[self._strip_protocol(path)].getvalue())


class ScriptedFile(io.BytesIO):
    def __init__(self, filesystem, content):
        super().__init__(content)
        self.filesystem = filesystem

    def read(self, size=-1):
        try:
            self.filesystem._step("read")
        except OSError:
            super().read(3)  # a failed read may have moved the file
            raise
        return super().read(size)


@pytest.fixture
def store(monkeypatch):
    """The scripted file system, with one file of ten digits, and no waiting."""
    fsspec.register_implementation("scripted", Scripted, clobber=True)
    for name, empty in (("script", []), ("asked", []), ("store", {}), ("pseudo_dirs", [""])):
        monkeypatch.setattr(Scripted, name, empty)
    waited = []
    monkeypatch.setattr(faults.time, "sleep", waited.append)
    Scripted().pipe_file("/in/a", b"0123456789")
    Scripted.asked.clear()
    Scripted.waited = waited
    return Scripted
