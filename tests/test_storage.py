import threading

import pytest

from linkner_ray.storage import Folder


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    """A folder on disk, and one of a file system that knows no links."""
    url = str(tmp_path / "made" / "later") if request.param == "local" else f"memory:/{tmp_path}"
    return Folder.at(url)


def test_a_name_is_given_once(folder):
    assert folder.create_whole("a", b"first")
    assert not folder.create_whole("a", b"second")
    assert folder.read_bytes("a") == b"first"
    assert folder.names("") == ["a"]
    folder.write_whole("a", b"third")  # which replaces
    assert folder.read_bytes("a") == b"third"


def test_of_many_writers_of_a_name_one_succeeds_and_nothing_else_is_left(tmp_path):
    folder = Folder.at(str(tmp_path))
    start, written = threading.Barrier(16), []

    def write(number):
        start.wait()
        if folder.create_whole("a", str(number).encode() * 10_000):
            written.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(10, 26)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert folder.read_bytes("a") == str(written[0]).encode() * 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_that_cannot_be_made_is_an_error_and_not_a_name_taken(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        Folder.at(str(tmp_path / "file")).create_whole("a", b"")


def test_a_file_can_be_moved_and_removed(folder):
    folder.write_whole("a", b"x")
    folder.move("a", "aside/a")
    assert folder.names("") in ([], ["aside"])
    assert folder.read_bytes("aside/a") == b"x"
    folder.remove("aside/a")
    folder.remove("aside/a")
    assert not folder.exists("aside/a")
    with pytest.raises(FileNotFoundError):
        folder.move("a", "b")


@pytest.fixture
def bucket(s3):
    """An empty bucket, and a client of it."""
    import boto3

    client = boto3.client("s3", endpoint_url=s3["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket="bucket")
    return client


def uploads(client):
    listed = client.list_multipart_uploads(Bucket="bucket").get("Uploads", [])
    return sorted(upload["Key"] for upload in listed)


def test_only_uploads_of_our_names_in_the_folder_are_aborted(bucket):
    for key in ("out/entities/a", "out/entities/b", "out/entities/a/a", "entities/a", "a"):
        bucket.create_multipart_upload(Bucket="bucket", Key=key)
    assert Folder.at("s3://bucket/out").abort_uploads("entities", lambda name: name == "a") == 1
    assert uploads(bucket) == ["a", "entities/a", "out/entities/a/a", "out/entities/b"]
    assert Folder.at("s3://bucket").abort_uploads("entities", lambda name: name == "a") == 1
    assert uploads(bucket) == ["a", "out/entities/a/a", "out/entities/b"]


def test_a_big_file_is_one_put(bucket):
    # s3fs would send from 2 x 50 MiB on in parts, whose ETag ends in their number.
    Folder.at("s3://bucket/out").write_whole("a", bytes(101 * 2**20))
    found = bucket.head_object(Bucket="bucket", Key="out/a")
    assert found["ContentLength"] == 101 * 2**20
    assert "-" not in found["ETag"]


def test_only_what_was_hidden_here_is_removed(tmp_path):
    folder = Folder.at(str(tmp_path))
    hidden = f".part.parquet.linkner-{'0' * 32}"
    foreign = [f".part.parquet.{'0' * 32}", ".keep", "part.parquet"]
    for name in (hidden, *foreign):
        (tmp_path / name).touch()
    assert folder.remove_hidden("") == 1
    assert folder.remove_hidden("nowhere") == 0
    assert folder.entries() == sorted(foreign)


@pytest.mark.usefixtures("bucket")
def test_entries_are_files_and_folders_hidden_or_not(tmp_path):
    assert Folder.at(str(tmp_path / "nowhere")).entries() == []
    for folder in (
        Folder.at(str(tmp_path)),
        Folder.at("s3://bucket/out"),
        Folder.at("s3://bucket"),
    ):
        folder.write_whole(".hidden", b"")
        folder.write_whole("below/file", b"")
    assert Folder.at(str(tmp_path)).entries() == [".hidden", "below"]
    assert Folder.at("s3://bucket/out").entries() == [".hidden", "below"]
    assert Folder.at("s3://bucket").entries() == [".hidden", "below", "out"]
