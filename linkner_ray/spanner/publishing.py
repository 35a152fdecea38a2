"""Publishing a finished checkpoint: the whole of it or nothing, and never over what is not ours."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from linkner_ray.errors import ConfigError
from linkner_ray.spanner.checkpoint import ALL_FILES, CONFIG, FORMAT, FORMAT_VERSION, UNFINISHED
from linkner_ray.storage import Folder


def check_publishable(path: str) -> None:
    """Check that a checkpoint may be published to a path; nothing is written.

    Raises:
        ConfigError: If there is a file, or a folder with anything else than a checkpoint of ours;
            names what was found.
    """
    folder = Folder.at(path)
    if folder.is_file():
        raise ConfigError(f"output.checkpoint = {path}: is a file; name a folder")
    folder.check_writable()
    found = folder.entries()
    if found and not _carries_mark(folder, found):
        raise ConfigError(
            f"output.checkpoint = {path}: holds {_some(found)} and is no checkpoint of ours, so "
            f"nothing in it is replaced; name a new folder, such as {path.rstrip('/')}/spanner"
        )
    if foreign := _foreign(folder, found):
        raise ConfigError(
            f"output.checkpoint = {path}: beside the checkpoint lies {_some(foreign)}, which would "
            "be lost when the checkpoint is replaced; move it away, or name another folder"
        )


def _carries_mark(folder: Folder, found: Sequence[str]) -> bool:
    """Whether a folder's `config.json` says that we wrote it."""
    if CONFIG not in found:
        return False
    try:
        config = json.loads(folder.read_bytes(CONFIG))
    except (ValueError, OSError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def _foreign(folder: Folder, found: Sequence[str]) -> list[str]:
    """What lies in a checkpoint's folder and is none of its files."""
    known = {name.partition("/")[0] for name in ALL_FILES}
    foreign = [name for name in found if name not in known]
    for below in known.difference(ALL_FILES).intersection(found):
        inside = [f"{below}/{name}" for name in folder.below(below).entries()]
        foreign += [name for name in inside if name not in ALL_FILES]
    return foreign


def _some(names: Sequence[str]) -> str:
    """The first names of a list, for an error."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def publish_checkpoint(folder: Path, path: str) -> None:
    """Copy a finished checkpoint to where it is wanted, replacing an earlier one as a whole.

    A local folder is replaced by renaming. A store has no rename: there `config.json` says first
    that the checkpoint is unfinished and is written last, so that no reader takes one half for
    the whole.

    Raises:
        ConfigError: As `check_publishable`.
    """
    check_publishable(path)
    target = Folder.at(path)
    if target.is_local:
        _publish_locally(folder, Path(target.root).resolve())
        return
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    mark = {"format": FORMAT, "format_version": FORMAT_VERSION, UNFINISHED: True}
    target.write_whole(CONFIG, json.dumps(mark).encode())
    for name in ALL_FILES:
        if name not in names:
            target.remove(name)
    for name in names:
        if name != CONFIG:
            target.upload(folder / name, name)
    target.write_whole(CONFIG, (folder / CONFIG).read_bytes())


def _publish_locally(folder: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    replaced = staging.with_name(f"{staging.name}-replaced")
    try:
        staging.chmod(0o755)
        shutil.copytree(folder, staging, dirs_exist_ok=True)
        if target.exists():
            target.rename(replaced)
        staging.rename(target)
    except OSError:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
