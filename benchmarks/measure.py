"""Timing on a machine that others use too: short rounds, every way in each of them."""

import ctypes
import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of one way of doing the work, round by round.

    Attributes:
        wall: Elapsed seconds of each round.
        cpu: Processor seconds of each round, all threads together.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median elapsed seconds."""
        return statistics.median(self.wall)

    @property
    def best(self) -> float:
        """Elapsed seconds of the quickest round: what others on the machine disturb least."""
        return min(self.wall)

    @property
    def median_cpu(self) -> float:
        """Median processor seconds."""
        return statistics.median(self.cpu)


def interleaved(ways: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, Timings]:
    """Time every way once in each round, in an order that turns from round to round.

    A machine that slows down for a while slows all ways down, and none always follows the same.

    Args:
        ways: What to time, by name; each has run once before, so that nothing is loaded here.
        rounds: At least 1.
    """
    names = list(ways)
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        place = turn % len(names)
        for name in names[place:] + names[:place]:
            started, started_cpu = time.perf_counter(), time.process_time()
            ways[name]()
            cpu[name].append(time.process_time() - started_cpu)
            wall[name].append(time.perf_counter() - started)
    return {name: Timings(tuple(wall[name]), tuple(cpu[name])) for name in names}


def paired_ratio(one: Timings, other: Timings, clock: Literal["wall", "cpu"] = "wall") -> float:
    """How many times `one` the speed of `other` is: the median over rounds of their seconds."""
    rounds = zip(getattr(one, clock), getattr(other, clock), strict=True)
    return statistics.median(a / b for a, b in rounds)


def peak_memory_mib(way: Callable[[], object]) -> float | None:
    """Memory that one pass takes at its peak, beyond what the process held before it.

    Returns:
        MiB of resident memory; None where the kernel keeps no peak that can be reset.
    """
    forget_peak = Path("/proc/self/clear_refs")
    if not forget_peak.exists():
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # hands freed memory back, or the pass would reuse it unseen
    forget_peak.write_text("5")
    before = resident_bytes("VmRSS")
    way()
    return max(0, resident_bytes("VmHWM") - before) / MEBIBYTE


def write_json(path: Path, numbers: Mapping[str, object]) -> None:
    """Write one flat object, keys in the order they were put in."""
    path.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def load_average() -> float:
    """Processes that wanted a processor, averaged over the last minute."""
    return os.getloadavg()[0]


def resident_bytes(field: str) -> int:
    """Memory of this process by a field of its status, such as VmRSS."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"/proc/self/status: has no line {field}; this kernel does not report it")
