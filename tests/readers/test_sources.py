import os

import fsspec
import pytest
import s3fs
from fsspec.implementations.local import LocalFileSystem

from linkner_ray.config import InputConfig
from linkner_ray.errors import ConfigError
from linkner_ray.readers import list_sources


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def listed(*paths, **config):
    return list_sources(InputConfig(paths=tuple(map(str, paths)), **config))


def names(sources, folder):
    return [os.path.relpath(source.path, folder) for source in sources]


@pytest.mark.parametrize(
    ("there", "paths", "expected"),
    [
        pytest.param(
            ["b.parquet", "a/c.jsonl", ".h.parquet", "_SUCCESS", "_tmp/d.parquet", ".x/e.wet"],
            [""],
            ["a/c.jsonl", "b.parquet"],
            id="a folder without hidden names",
        ),
        pytest.param(
            ["_work/a.parquet", "_work/_b.parquet"],
            ["_work"],
            ["_work/a.parquet"],
            id="a hidden folder that is named",
        ),
        pytest.param(
            ["b.parquet", "a.parquet", "_c.parquet"],
            ["b.parquet", "*.parquet", "_c.parquet"],
            ["_c.parquet", "a.parquet", "b.parquet"],
            id="files named twice are listed once, in order",
        ),
        pytest.param(
            ["day=1/a.parquet", "day=2/b.parquet", "other/c.parquet"],
            ["day=*"],
            ["day=1/a.parquet", "day=2/b.parquet"],
            id="a glob of folders",
        ),
        pytest.param(
            ["a[1].parquet", "a1.parquet"],
            ["a[1].parquet"],
            ["a[1].parquet"],
            id="a name with brackets that exists is no glob",
        ),
    ],
)
def test_paths_mean_the_shards_in_them(tmp_path, there, paths, expected):
    touch(tmp_path, *there)
    assert names(listed(*(tmp_path / path for path in paths)), tmp_path) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"filter": [["a", ">", 1]]},
            r"input.filter is for Parquet shards, and .*b\.jsonl is jsonl",
        ),
        ({"columns": ["a"]}, r"input.columns is for Parquet shards, and .*b\.jsonl"),
    ],
)
def test_keys_of_parquet_are_refused_for_other_shards(tmp_path, settings, message):
    touch(tmp_path, "a.parquet", "b.jsonl")
    with pytest.raises(ConfigError, match=message):
        listed(tmp_path, **settings)


@pytest.mark.parametrize("name", ["url", "entities", "num_chars", "candidates"])
def test_columns_of_the_output_are_not_carried(tmp_path, name):
    touch(tmp_path, "a.parquet")
    with pytest.raises(ConfigError, match=f"input.columns: {name}: a run has columns"):
        listed(tmp_path, columns=["host", name])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.parquet", "parquet"),
        ("a.PARQUET", "parquet"),
        ("a.jsonl", "jsonl"),
        ("a.ndjson.gz", "jsonl"),
        ("a.json.zst", "jsonl"),
        ("a.wet", "wet"),
        ("a.warc.wet.gz", "wet"),
        ("a.wet.zst", "wet"),
        ("a.warc.gz", "warc"),
        ("a.arc", "warc"),
    ],
)
def test_the_format_goes_by_the_name(tmp_path, name, expected):
    touch(tmp_path, name)
    assert [source.format for source in listed(tmp_path)] == [expected]


def test_an_unknown_name_needs_a_format(tmp_path):
    touch(tmp_path, "a.txt")
    with pytest.raises(ConfigError, match=r"a\.txt: .* set input\.format"):
        listed(tmp_path)
    assert [source.format for source in listed(tmp_path, format="jsonl")] == ["jsonl"]


def test_a_path_that_matches_nothing_names_what_is_there(tmp_path):
    touch(tmp_path, "2024/a.parquet")
    with pytest.raises(ConfigError, match=r"b\.parquet' matches nothing; .*2024 holds a\.parquet"):
        listed(tmp_path / "2024" / "b.parquet")
    with pytest.raises(ConfigError, match=r"matches nothing; .* holds 2024"):
        listed(tmp_path / "2025" / "*.parquet")


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="holds nothing"):
        listed(tmp_path)


def test_a_file_name_that_is_not_utf8_is_named(tmp_path):
    touch(tmp_path, os.fsdecode(b"x\xff.parquet"))
    with pytest.raises(ConfigError, match=r"x\\udcff.parquet' is not UTF-8.*; rename the file"):
        listed(tmp_path)


def test_a_link_to_a_folder_is_followed_only_where_it_is_named(tmp_path):
    touch(tmp_path, "day/a.parquet")
    (tmp_path / "crawl").mkdir()
    (tmp_path / "crawl" / "latest").symlink_to(tmp_path / "day")
    (tmp_path / "crawl" / "b.parquet").symlink_to(tmp_path / "day" / "a.parquet")
    for settings in ({}, {"format": "parquet"}):
        with pytest.raises(ConfigError, match="latest is a link to a folder"):
            listed(tmp_path / "crawl", **settings)
    found = listed(tmp_path / "crawl" / "latest", tmp_path / "crawl" / "b.parquet")
    assert names(found, tmp_path / "crawl") == ["b.parquet", "latest/a.parquet"]


def test_an_unknown_scheme_is_a_config_error():
    with pytest.raises(ConfigError, match="nowhere://"):
        listed("nowhere://a/b")


def test_another_modification_time_is_another_version(tmp_path):
    touch(tmp_path, "a.parquet")
    os.utime(tmp_path / "a.parquet", ns=(1, 1_500_000_001))
    [source] = listed(tmp_path)
    assert (source.version, source.size) == ("1500000001", 1)


def test_a_url_keeps_its_scheme_and_costs_one_listing():
    filesystem = fsspec.filesystem("memory")
    for name in ("b.parquet", "a.parquet", "_x.parquet"):
        filesystem.pipe_file(f"/listing/{name}", b"x")
    try:
        found = listed("memory://listing/*.parquet")
        assert [s.path for s in found] == [
            "memory:///listing/a.parquet",
            "memory:///listing/b.parquet",
        ]
        assert all(source.version for source in found)
    finally:
        filesystem.rm("/listing", recursive=True)


@pytest.mark.parametrize("pattern", ["", "*", "**"])
def test_a_folder_that_cannot_be_listed_is_not_left_out(tmp_path, monkeypatch, pattern):
    for name in ("a", "b"):
        (tmp_path / name / "c").mkdir(parents=True)
        (tmp_path / name / "c" / "x.parquet").touch()
    list_folder = LocalFileSystem.ls

    def ls(self, path, *args, **kwargs):
        if path.rstrip("/").endswith("b/c"):
            raise PermissionError(13, "Permission denied", path)
        return list_folder(self, path, *args, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "ls", ls)
    with pytest.raises(ConfigError, match=r"cannot be listed.*b/c"):
        list_sources(InputConfig(paths=[str(tmp_path / pattern)]))


@pytest.mark.usefixtures("s3")
def test_every_way_of_listing_a_store_finds_the_same():
    files = s3fs.S3FileSystem()
    files.mkdir("crawl")
    for name in ("one/a.parquet", "one/two/b.parquet"):
        files.pipe(f"crawl/{name}", b"x")
    for path in ("s3://crawl/one", "s3://crawl/*", "s3://crawl/**", "s3://crawl/o*/"):
        found = list_sources(InputConfig(paths=[path]))
        assert [source.path for source in found] == [
            "s3://crawl/one/a.parquet",
            "s3://crawl/one/two/b.parquet",
        ]
