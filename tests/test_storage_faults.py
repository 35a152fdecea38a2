"""Errors of a store and errors of content, with a file system that fails as scripted."""

import errno
import io
import pickle
import threading
import wsgiref.simple_server

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import NoCredentialsError
from fsspec.implementations.local import LocalFileSystem

from linkner_ray.corpora.files import read_bytes
from linkner_ray.errors import StoreError
from linkner_ray.storage import Folder, faults, open_file, read_file
from tests.failing_store import Scripted, s3_error, store

__all__ = ["store"]

PASSING = ["SlowDown", "503", "ServiceUnavailable", "InternalError", "500", "RequestTimeout"]
REFUSING = ["ExpiredToken", "403", "AccessDenied", "InvalidAccessKeyId", "400"]

OPERATIONS = {
    "names": lambda f: f.names("in"),
    "entries": lambda f: f.below("in").entries(),
    "exists": lambda f: f.exists("in/a"),
    "is_folder": lambda f: f.is_folder("in"),
    "read_bytes": lambda f: f.read_bytes("in/a"),
    "write_whole": lambda f: f.write_whole("in/b", b"b"),
    "create_whole": lambda f: f.create_whole("in/b", b"b"),
    "remove": lambda f: f.remove("in/a"),
    "open": lambda f: f.open("in/a").read(),
    "read_file": lambda _: read_file("scripted:///in/a"),
    "open_file": lambda _: open_file("scripted:///in/a").read(),
    "corpus": lambda _: read_bytes("scripted:///in/a"),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_store_that_fails_for_a_while_is_asked_again(store, operation):
    right = operation(Folder.at("scripted:///"))
    store().pipe_file("/in/a", b"0123456789")
    store.store.pop("/in/b", None)
    store.script[:] = [s3_error("SlowDown"), s3_error("InternalError")]
    assert operation(Folder.at("scripted:///")) == right
    assert not store.script
    assert 1 <= len(store.waited) <= 2  # what creates looks whether it succeeded after all


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("code", ["SlowDown", "ExpiredToken"])
def test_a_store_that_goes_on_failing_stops_the_run(store, operation, code):
    store.script[:] = [s3_error(code) for _ in range(100)]
    with pytest.raises(StoreError, match="the same command"):
        operation(Folder.at("scripted:///"))


@pytest.mark.parametrize("code", PASSING)
def test_what_may_pass_is_tried_for_a_minute(store, code):
    store.script[:] = [s3_error(code) for _ in range(100)]
    with pytest.raises(StoreError, match="in/a: the store fails, after 8 attempts"):
        read_file("scripted:///in/a")
    assert len(store.asked) == 8
    assert 30 <= sum(store.waited) <= 95


@pytest.mark.parametrize("code", REFUSING)
def test_a_refusal_is_told_at_once_with_its_code(store, code):
    store.script[:] = [s3_error(code)]
    with pytest.raises(StoreError, match=f"the store refuses: {code}: told"):
        open_file("scripted:///in/a")
    assert store.waited == []


def test_errors_that_are_no_oserror_are_the_store_s_too(store):
    store.script[:] = [NoCredentialsError()]
    with pytest.raises(StoreError, match="refuses: Unable to locate credentials"):
        read_file("scripted:///in/a")


@pytest.mark.parametrize("operation", ["read_bytes", "open", "read_file", "open_file"])
def test_a_file_that_is_missing_is_no_fault_of_the_store(store, operation):
    store.script[:] = [s3_error("NoSuchKey")]
    with pytest.raises(FileNotFoundError):
        OPERATIONS[operation](Folder.at("scripted:///"))
    assert store.waited == []


def test_a_store_that_fails_later_is_read_on_where_it_failed(store):
    with open_file("scripted:///in/a") as file:
        assert file.read(2) == b"01"
        store.script[:] = [s3_error("503"), None, s3_error("503")]
        assert file.read(4) == b"2345"
        assert file.read() == b"6789"
        file.seek(1)
        store.script[:] = [s3_error("ExpiredToken")]
        with pytest.raises(StoreError):
            file.read(1)


def test_a_store_error_comes_through_arrow_as_itself(store):
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(100_000))}), sink, row_group_size=50_000)
    store().pipe_file("/in/a", sink.getvalue())
    with open_file("scripted:///in/a") as file:
        parquet = pq.ParquetFile(file, pre_buffer=True)
        assert parquet.read_row_group(0).num_rows == 50_000
        store.script[:] = [s3_error("503") for _ in range(100)]
        with pytest.raises(StoreError, match="in/a: the store fails"):
            parquet.read_row_group(1)
        store.script.clear()
        assert parquet.read_row_group(1).num_rows == 50_000


@pytest.mark.usefixtures("store")
def test_a_put_whose_reply_was_lost_counts_as_written(monkeypatch):
    put = Scripted.pipe_file

    def lose_reply(self, *args, **kwargs):
        put(self, *args, **kwargs)
        monkeypatch.setattr(Scripted, "pipe_file", put)
        raise s3_error("RequestTimeout")

    monkeypatch.setattr(Scripted, "pipe_file", lose_reply)
    folder = Folder.at("scripted:///in")
    assert folder.create_whole("lock", b"ours")
    assert not folder.create_whole("lock", b"theirs")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EMFILE])
def test_a_local_disk_that_fails_is_no_fault_of_the_file(tmp_path, monkeypatch, number):
    (tmp_path / "a").write_bytes(b"x")

    def fail(*_, **__):
        raise OSError(number, "scripted")

    monkeypatch.setattr(LocalFileSystem, "open", fail)
    with pytest.raises(StoreError, match="scripted"):
        open_file(str(tmp_path / "a"))


@pytest.mark.usefixtures("store")
def test_a_local_file_without_rights_is_about_the_file_unless_it_is_ours(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(LocalFileSystem, "open", fail)
    with pytest.raises(PermissionError):
        open_file(str(tmp_path / "a"))
    with pytest.raises(StoreError, match="refuses"):
        Folder.at(str(tmp_path)).open("a")


def test_a_store_error_passes_from_a_worker_to_its_driver():
    assert str(pickle.loads(pickle.dumps(StoreError("full")))) == "full"  # noqa: S301 - our own


class _Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass


def test_a_server_that_says_slow_down_is_believed(monkeypatch):
    """Over HTTP, with all that s3fs and botocore do by themselves."""
    asked = []

    def answer(environ, start_response):
        asked.append(environ["REQUEST_METHOD"])
        start_response("503 Slow Down", [("Content-Type", "application/xml")])
        return [b"<Error><Code>SlowDown</Code><Message>reduce</Message></Error>"]

    server = wsgiref.simple_server.make_server("127.0.0.1", 0, answer, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(faults, "WAITS_S", (0.0,))
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(StoreError, match="bucket/a: the store fails, after 2 attempts"):
            open_file("s3://bucket/a")
        assert len(asked) >= 2
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.shutdown()
        thread.join()
        server.server_close()
