"""Which shards the paths of a config mean."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import fsspec
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import glob_translate

from linkner_ray.config import InputConfig
from linkner_ray.errors import ConfigError
from linkner_ray.readers.compression import read_head
from linkner_ray.readers.other_format import name_format
from linkner_ray.runs.units import ShardFormat, Source
from linkner_ray.schemas import DOCUMENTS, OUTPUT, STAGE_COLUMNS
from linkner_ray.storage import ask_store, open_file

_FORMATS: tuple[tuple[re.Pattern[str], ShardFormat], ...] = (
    (re.compile(r".*\.parquet", re.IGNORECASE), "parquet"),
    (re.compile(r".*\.(jsonl|ndjson|json)(\.gz|\.zst)?", re.IGNORECASE), "jsonl"),
    (re.compile(r".*\.wet(\.gz|\.zst)?", re.IGNORECASE), "wet"),
    (re.compile(r".*\.(warc|arc)(\.gz|\.zst)?", re.IGNORECASE), "warc"),
)
_WILDCARD = re.compile(r"[*?\[]")
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "generation", "LastModified", "mtime", "created")
_FIND = AsyncFileSystem._find
_NUM_NEIGHBOURS = 5
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def list_sources(config: InputConfig) -> list[Source]:
    """Shards that the paths of a config mean, sorted by path, each once.

    A folder is searched to the bottom; files and folders below it whose names begin with `_` or
    `.` are left out. A file named by itself is always taken.

    Raises:
        ConfigError: If a path matches nothing, cannot be listed, or names a file of unknown
            format while `input.format` is auto.
        StoreError: If the store of a path fails.
    """
    sources: dict[str, Source] = {}
    for path in config.paths:
        for source in _sources_of(path, config):
            sources[source.path] = source
    found = [sources[path] for path in sorted(sources)]
    _check_parquet_keys(found, config)
    return found


def _check_parquet_keys(sources: Sequence[Source], config: InputConfig) -> None:
    """Refuse keys that only Parquet shards know, and columns that the output has anyway."""
    other = next((source for source in sources if source.format != "parquet"), None)
    for key in ("filter", "columns"):
        if getattr(config, key) and other is not None:
            raise ConfigError(
                f"input.{key} is for Parquet shards, and {other.path} is {other.format}; take "
                f"input.{key} out, or convert the shard"
            )
    taken = sorted({*DOCUMENTS.names, *OUTPUT.names, *STAGE_COLUMNS} & {*config.columns})
    if taken:
        raise ConfigError(
            f"input.columns: {', '.join(taken)}: a run has columns of these names; leave them out, "
            "or rename them in the shards"
        )


def _sources_of(path: str, config: InputConfig) -> Iterator[Source]:
    try:
        filesystem, root = fsspec.core.url_to_fs(path)
    except (ValueError, ImportError, OSError) as error:
        raise ConfigError(f"input path '{path}': {error}; correct the path") from error

    def find() -> dict[str, Mapping[str, Any]]:
        filesystem.invalidate_cache()
        return _find(filesystem, root)

    try:
        files = ask_store(find, path, filesystem=filesystem)
    except OSError as error:
        raise ConfigError(
            f"input path '{path}' cannot be listed: {error}; look at rights and credentials"
        ) from error
    if not files:
        near = ask_store(lambda: _neighbours(filesystem, root), path, filesystem=filesystem)
        raise ConfigError(f"input path '{path}' matches nothing; {near}")
    is_local = isinstance(filesystem, LocalFileSystem)
    for name, found in files.items():
        full_name = name if is_local else filesystem.unstrip_protocol(name)
        try:
            full_name.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"input path '{path}': the file name {full_name!a} is not UTF-8, so no table "
                "can hold it; rename the file"
            ) from error
        if is_local and found.get("islink") and Path(name).is_dir():
            raise ConfigError(
                f"input path '{path}': {name} is a link to a folder, and those are not followed, "
                "since they may lead in a circle; name the folder itself in input.paths"
            )
        yield Source(
            path=full_name,
            format=_format_of(full_name, config),
            size=int(found["size"]),
            version=_version(name, found, is_local=is_local),
        )


def _find(filesystem: AbstractFileSystem, root: str) -> dict[str, Mapping[str, Any]]:
    """Files by name, with what one listing says of them."""
    try:
        found = filesystem.info(root)
    except FileNotFoundError:
        found = None
    if found is not None and found["type"] == "file":
        return {root: found}
    if found is not None and found["type"] == "directory":
        return _below(filesystem, root)
    wildcard = _WILDCARD.search(root)
    if wildcard is None:
        return {}
    above = root[: wildcard.start()].rpartition("/")[0]
    files: dict[str, Mapping[str, Any]] = {}
    for name, entry in _matches(filesystem, above, root[len(above) :].strip("/").split("/")):
        found_here = _below(filesystem, name) if entry["type"] == "directory" else {name: entry}
        files |= {name: file for name, file in found_here.items() if not _is_hidden(name, above)}
    return files


# fsspec's own `find` and `glob` leave out folders that cannot be listed, without a word.


def _matches(
    filesystem: AbstractFileSystem, folder: str, pattern: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Files and folders below a folder whose names match a pattern, given level by level."""
    first, *rest = pattern
    if first == "**":
        wanted = re.compile(glob_translate("/".join(["**", *rest])))
        for name, entry in _below(filesystem, folder).items():
            levels = name[len(folder) :].strip("/").split("/")
            if any(wanted.match("/".join(levels[:depth])) for depth in range(1, len(levels) + 1)):
                yield name, entry
        return
    for name, entry in _entries(filesystem, folder):
        if not fnmatchcase(PurePosixPath(name).name, first):
            continue
        if not rest:
            yield name, entry
        elif entry["type"] == "directory":
            yield from _matches(filesystem, name, rest)


def _below(filesystem: AbstractFileSystem, folder: str) -> dict[str, Mapping[str, Any]]:
    """Files below a folder, to the bottom, without hidden ones."""
    if isinstance(filesystem, AsyncFileSystem) and type(filesystem)._find is not _FIND:
        # A store that lists all keys at once, such as S3.
        entries = dict(filesystem.find(folder, detail=True))
    else:
        entries = {}
        folders = [folder]
        while folders:
            for name, entry in _entries(filesystem, folders.pop()):
                if entry["type"] == "directory":
                    folders.append(name)
                else:
                    entries[name] = entry
    return {name: entry for name, entry in entries.items() if not _is_hidden(name, folder)}


def _entries(
    filesystem: AbstractFileSystem, folder: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What stands directly in a folder; nothing in one that is gone."""
    try:
        found = filesystem.ls(folder, detail=True)
    except FileNotFoundError:
        return
    for entry in found:
        name = entry["name"].rstrip("/")
        if name != folder.rstrip("/"):  # stores may have an empty object for a folder
            yield name, entry


def _is_hidden(name: str, folder: str) -> bool:
    """Whether any part of the name below the folder begins with `_` or `.`."""
    return any(part.startswith(("_", ".")) for part in name[len(folder) :].split("/"))


def _format_of(path: str, config: InputConfig) -> ShardFormat:
    if config.format != "auto":
        return config.format
    name = PurePosixPath(path).name
    for pattern, shard_format in _FORMATS:
        if pattern.fullmatch(name):
            return shard_format
    try:
        with open_file(path) as file:
            _, found = name_format(read_head(file)) or (None, "")
    except OSError:
        found = ""
    if found:
        raise ConfigError(f"{path}: the name does not tell the format, and it is {found}")
    raise ConfigError(
        f"{path}: the name does not tell the format; set input.format, or name the shards with a "
        f"glob such as {PurePosixPath(path).parent.name or '.'}/*.parquet"
    )


_LANG_COLUMNS = ("lang", "language", "lang_code", "language_code", "language_id")
"""Names under which shards have a language; the first is the default of `input.lang_column`."""


def lang_column(names: Iterable[str], config: InputConfig) -> str | None:
    """The column of the language among those of a shard, by its common names if none is set."""
    if config.lang_column != _LANG_COLUMNS[0]:
        return config.lang_column
    return next((name for name in _LANG_COLUMNS if name in names), config.lang_column)


def folder_values(path: str, config: InputConfig) -> dict[str, str | None]:
    """Url and language of documents where folders name them, as in `lang=de/part-0.parquet`."""
    found: dict[str | None, str | None] = {}
    for folder in path.split("/")[:-1]:
        name, _, value = folder.partition("=")
        if value:
            found[unquote(name)] = None if value == _NULL_PARTITION else unquote(value)
    columns = {"url": config.url_column, "lang": lang_column([*map(str, found)], config)}
    return {key: found[column] for key, column in columns.items() if column in found}


def _version(name: str, found: Mapping[str, Any], *, is_local: bool) -> str:
    if is_local:
        return str(Path(name).stat().st_mtime_ns)
    tags = (found.get(key) for key in _VERSION_KEYS)
    return next((str(tag).strip('"') for tag in tags if tag is not None), "")


def _neighbours(filesystem: AbstractFileSystem, root: str) -> str:
    """What there is in the nearest folder that exists."""
    folder = root
    while folder.strip("/") and (_WILDCARD.search(folder) or not filesystem.isdir(folder)):
        folder = folder.rpartition("/")[0]
    if not folder.strip("/"):
        return "none of the folders above it exists"
    names = sorted(PurePosixPath(name).name for name in filesystem.ls(folder, detail=False))
    listed = ", ".join(names[:_NUM_NEIGHBOURS]) or "nothing"
    more = f" and {len(names) - _NUM_NEIGHBOURS} more" if len(names) > _NUM_NEIGHBOURS else ""
    return f"the folder {folder} holds {listed}{more}"
