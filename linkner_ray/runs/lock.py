"""One writer for each output: numbered locks, each with its owner and a heartbeat.

`_lock/000001.json` says who owns the output and never changes; the owner rewrites
`_lock/000001.beat` as long as it lives. The highest number owns. A number can be taken once, as
names in `Folder.create_whole` can, and nothing else is asked of a file system or store. Clocks of
two machines are never compared: a process that wants the output watches the beat by its own clock.

A lock spares work and questions asked twice; it is not what makes output right. Names of units
follow from their content, so of two writers that overlap for a moment both write the same bytes.
"""

import json
import logging
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from linkner_ray.errors import ConfigError, LockLostError, StoreError, hide_secrets
from linkner_ray.storage import Folder

logger = logging.getLogger(__name__)

LOCKS = "_lock"

_OUR_FILE = re.compile(r"([0-9]{6,})\.(json|beat)")

MOST_WAIT_S = 1.0
"""Seconds that a release waits for a heartbeat that is being written."""

BEATS = 6
"""Beats of an owner within the time after which it counts as dead."""

LOOKS = 24
"""Looks at the beat within that time, by a process that waits for the output."""

GONE_S = 0.05
"""Before the next look where a lock is listed and not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who writes into an output."""

    name: str
    """For people: user, host, process, and the Ray job where there is one."""

    since: str
    """UTC by the owner's clock; for people."""

    machine: str
    """Boot and process namespace; two processes with the same one see each other's ids. Empty
    where the system does not say."""

    pid: int
    process_started: str
    """In the clock ticks of `/proc`; tells a process from a later one with its id."""

    timeout_s: float
    """Silence after which the owner counts as dead."""

    token: str
    """Tells this owner from every other."""


class OutputLock:
    """Holds an output while a `with` block runs."""

    def __init__(
        self, folder: Folder, *, url: str, timeout_s: float, say: Callable[[str], None]
    ) -> None:
        self._folder, self._url, self._timeout_s, self._say = folder, url, timeout_s, say
        self._number = 0
        self._content = b""
        self._lost = ""
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        """Take the output.

        Raises:
            ConfigError: If another owner lives or was quicker; names it.
        """
        self._content = json.dumps(asdict(_this_process(self._timeout_s)), indent=2).encode()
        try:
            self._take(self._free_number())
        except BaseException:
            self._let_go()
            raise
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let the output go; from any thread, and more than once does no harm."""
        self._ended.set()
        if self._beating.is_alive():
            self._beating.join(MOST_WAIT_S)
        self._let_go()

    def check(self) -> None:
        """Check what the last beat found.

        Raises:
            LockLostError: If the output has another owner by now.
        """
        if self._lost:
            raise LockLostError(self._lost)

    def confirm(self) -> None:
        """Look now whether the output is still this owner's.

        Raises:
            LockLostError: If it is not.
        """
        self._look()
        self.check()

    def _take(self, number: int) -> None:
        """Take a number, unless another is quicker; the locks of dead owners go."""
        self._number = number
        try:
            is_first = self._folder.create_whole(_lock_name(number), self._content)
        except OSError as error:
            raise ConfigError(
                f"{self._url} cannot be locked: {error}. It takes the right to write there, and on "
                "a file system hard links"
            ) from error
        # A store that does not know PUT on condition replaces instead of refusing.
        if not is_first or self._read(_lock_name(number)) != self._content:
            raise self._refusal(self._owner(number))
        self._remove_lower(number)

    def _beat(self) -> None:
        """Show that this owner lives, until the end or until there is another."""
        number = 0
        while not self._ended.wait(self._timeout_s / BEATS):
            number += 1
            try:
                self._look()
                if self._lost:
                    return
                self._folder.write_whole(_beat_name(self._number), str(number).encode())
            except Exception as error:  # noqa: BLE001 - each store has its own; the next beat may pass
                logger.warning("%s: no heartbeat: %s", self._url, error)

    def _look(self) -> None:
        numbers = self._numbers()
        highest = numbers[-1] if numbers else 0
        if highest > self._number:
            owner = self._owner(highest)
            by = f"by {owner.name}" if owner else "by a run that has ended since"
        elif highest == self._number and self._read(_lock_name(highest)) == self._content:
            return
        else:
            by = f"and its lock {_lock_name(self._number)} is gone"
        self._lost = (
            f"{self._url} was taken over {by}: this run was silent for more than "
            f"{self._timeout_s:g} s. It stops; the units it wrote are whole and stay"
        )

    def _free_number(self) -> int:
        """The number after those of owners that are dead.

        Raises:
            ConfigError: If the last owner lives, or its lock cannot be read.
        """
        number = 0
        for _ in range(LOOKS):
            number = max(self._numbers(), default=0)
            owner = self._owner(number) if number else None
            if owner is not None and self._is_alive(number, owner):
                raise self._refusal(owner)
            if owner is not None or not number:
                return number + 1
            time.sleep(GONE_S)  # it ended just now
        raise ConfigError(
            f"{self._url}/{_lock_name(number)} is listed and cannot be read; if nothing writes "
            "there, remove it"
        )

    def _is_alive(self, number: int, owner: Owner) -> bool:
        """Whether an owner's process runs or, on another machine, its heart beats."""
        if owner.machine and owner.machine == _this_machine():
            return _process_started(owner.pid) == owner.process_started
        self._say(
            f"{hide_secrets(self._url)} is locked by {owner.name} since {owner.since}; waiting up "
            f"to {owner.timeout_s:g} s for a sign of life"
        )
        last = self._read(_beat_name(number))
        deadline = time.monotonic() + owner.timeout_s
        while time.monotonic() < deadline:
            time.sleep(owner.timeout_s / LOOKS)
            if self._read(_lock_name(number)) is None:
                return False
            if self._read(_beat_name(number)) != last:
                return True
        return False

    def _refusal(self, owner: Owner | None) -> ConfigError:
        who = f"{owner.name} since {owner.since}" if owner else "another run"
        return ConfigError(
            f"{self._url} is being written by {who}. Wait for it or stop it, or choose another "
            "output.path"
        )

    def _owner(self, number: int) -> Owner | None:
        content = self._read(_lock_name(number))
        if content is None:
            return None
        try:
            return Owner(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"{self._url}/{_lock_name(number)} is no lock that this version wrote ({error}); "
                "if nothing writes there, remove it"
            ) from error

    def _numbers(self) -> list[int]:
        """Numbers of the locks there are, the highest last."""
        return sorted(int(found[1]) for found in self._found() if found[2] == "json")

    def _found(self) -> list[re.Match[str]]:
        """Our files among the names in `_lock/`; no others are touched."""
        return [found for n in self._folder.names(LOCKS) if (found := _OUR_FILE.fullmatch(n))]

    def _read(self, name: str) -> bytes | None:
        try:
            return self._folder.read_bytes(name)
        except FileNotFoundError:
            return None

    def _let_go(self) -> None:
        try:
            self._remove_own()
        except (OSError, StoreError) as error:  # what the run wrote is no worse for it
            logger.warning("%s: its lock stays, and the next run has to wait: %s", self._url, error)

    def _remove_own(self) -> None:
        """Remove the lock, if it is this owner's, and what dead owners left."""
        if self._read(_lock_name(self._number)) != self._content:
            return
        self._remove_lower(self._number)
        self._folder.remove(_beat_name(self._number))
        self._folder.remove_hidden(LOCKS, up_to=f"{self._number:06d}.json")
        self._folder.remove(_lock_name(self._number))

    def _remove_lower(self, number: int) -> None:
        for found in self._found():
            if int(found[1]) < number:
                self._folder.remove(f"{LOCKS}/{found[0]}")


def _lock_name(number: int) -> str:
    return f"{LOCKS}/{number:06d}.json"


def _beat_name(number: int) -> str:
    return f"{LOCKS}/{number:06d}.beat"


def _this_process(timeout_s: float) -> Owner:
    pid = os.getpid()
    user = os.environ.get("USER") or f"user {os.getuid()}"
    job = _ray_job()
    return Owner(
        name=f"{user}@{platform.node()}, process {pid}" + (f", job {job}" if job else ""),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=_this_machine(),
        pid=pid,
        process_started=_process_started(pid),
        timeout_s=timeout_s,
        token=uuid.uuid4().hex,
    )


def _ray_job() -> str:
    """Submission id of the Ray job this process is the driver of; empty if it is none's."""
    try:
        job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        return str(job.get("metadata", {}).get("job_submission_id", ""))
    except (ValueError, AttributeError):
        return ""


def _this_machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return ""
    return f"{boot}/{namespace}"


def _process_started(pid: int) -> str:
    """When a process of this machine started; empty if it has ended or the system does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name in parentheses may hold anything; state is the first field after it, start the 20th.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
