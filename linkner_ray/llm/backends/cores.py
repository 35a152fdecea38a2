"""Cores of an engine's own, on a machine where several engines work on CPUs.

An engine locks a file for each core it takes. All of a user's processes on the machine see these
locks, and the system frees them when a process ends, however it ends. So two engines never have a
core in common, be they of one run or of two.
"""

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


class Cores:
    """Cores that a process holds; no other process holds them until it releases them or ends."""

    def __init__(self, folder: Path | None = None) -> None:
        """Hold none yet.

        Args:
            folder: Where the locks of this machine are; default: one of this user, who need not
                have a name, in the folder for temporary files.
        """
        self.held: tuple[int, ...] = ()
        self._folder = folder or Path(tempfile.gettempdir()) / f"linkner-cores-{os.getuid()}"
        self._files: list[int] = []

    def claim(self, count: int) -> tuple[int, ...]:
        """Hold that many cores; those held already, if they are as many.

        Returns:
            Their numbers; none where not as many are free, or where the process may use a share
            of the machine's time and no cores of its own.
        """
        if len(self.held) == count:
            return self.held
        self.release()
        usable = usable_cores()
        if not usable:
            return ()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            for core in usable:
                if len(self._files) == count:
                    break
                self._try(core)
        if len(self.held) < count:
            logger.warning(
                "an engine wants %d of the machine's cores for itself and %d are free; it shares "
                "them with others. Fewer engines a node, or a lower llm.num_threads, would be "
                "faster",
                count, len(self.held),
            )  # fmt: skip
            self.release()
        return self.held

    def release(self) -> None:
        """Let go of all cores."""
        for file in self._files:
            os.close(file)
        self._files, self.held = [], ()

    def _try(self, core: int) -> None:
        """Hold a core, unless another process does."""
        file = self._open(f"core-{core}")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return
        self._files.append(file)
        self.held = (*self.held, core)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process claims meanwhile, or two might each hold half of what both want."""
        file = self._open("claims")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def _open(self, name: str) -> int:
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def started_on(cores: Sequence[int]) -> Iterator[None]:
    """What this thread starts meanwhile, processes and threads, runs on these cores alone."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def usable_cores() -> list[int]:
    """Cores that this process may use, one of each pair of siblings before the others.

    None where the system cannot bind, and where a container has a share of the machine's time:
    there the same cores may be another container's, whose locks are not seen.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    quota = _quota()
    if quota is not None and quota < len(cores):
        return []
    return sorted(cores, key=lambda core: (_place_among_siblings(core), core))


def _place_among_siblings(core: int) -> int:
    """0 for the first logical core of a physical one, 1 for the second."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return 0
    siblings: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        siblings += range(int(first), int(last or first) + 1)
    return siblings.index(core) if core in siblings else 0


def _quota(v2: Path = _CGROUP_V2, v1: Path = _CGROUP_V1) -> float | None:
    """CPUs of time that the container may use; None without a limit."""
    try:
        if v2.exists():
            quota, period = v2.read_text(encoding="ascii").split()
        else:
            quota = (v1 / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (v1 / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return None if quota in {"max", "-1"} else int(quota) / int(period)
