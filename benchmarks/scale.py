"""Do speed and memory of a run stay flat as it grows?

    python -m benchmarks.scale --sizes 10000 100000 1000000 --json FILE
    python -m benchmarks.scale --planned-units 1000000
    python -m benchmarks.scale --nodes 4

Documents are short and the encoder is tiny, so that the numbers are of the engine. Each size is a
run of `extract` in a process and with a Ray of its own. Its rate is that of its steady state: the
documents written after the first part file, over the time from the first to the last. Start-up is
what comes before the first. Memory is sampled; of workers it is what they hold for themselves, for
the pages of the object store are shared by all and bounded by its size.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.measure import MEBIBYTE, load_average, write_json
from benchmarks.scale_nodes import compare_nodes
from benchmarks.scale_plan import simulate_plan
from benchmarks.scale_work import steady_rate, write_checkpoint, write_crawl
from linkner_ray.config import InputConfig
from linkner_ray.reporting.tables import markdown_table

Numbers = dict[str, object]

SAMPLE_INTERVAL_S = 0.5

UNIT_DOCUMENTS = InputConfig.model_fields["unit_documents"].default
"""As large as users have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run.

    Attributes:
        documents: Of the run.
        docs_per_s: In its steady state.
        startup_s: From the start of the process to the first part file.
        driver_mib: Peak resident memory of the driver.
        worker_mib: Peak memory that one worker holds for itself.
    """

    documents: int
    docs_per_s: float
    startup_s: float
    driver_mib: float
    worker_mib: float


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its tables, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[], help="documents of each run")
    parser.add_argument("--rounds", type=int, default=1, help="every size once in each")
    parser.add_argument("--planned-units", type=int, help="simulate a driver with so many units")
    parser.add_argument("--nodes", type=int, help="compare so many simulated nodes with one")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    numbers: Numbers = {"load_average_before": load_average()}
    if options.sizes:
        numbers |= compare_sizes(options.sizes, rounds=options.rounds)
    if options.planned_units:
        numbers |= simulate_plan(options.planned_units)
    if options.nodes:
        numbers |= compare_nodes(options.nodes)
    numbers["load_average_after"] = load_average()
    if options.json:
        write_json(options.json, numbers)
    return numbers


def compare_sizes(sizes: Sequence[int], *, rounds: int) -> Numbers:
    """Run every size in every round, print a table, and compare the largest with the smallest."""
    found: dict[int, list[Measured]] = {size: [] for size in sizes}
    # The run after the first finds files in the page cache that the first did not.
    order = [min(sizes), *[size for _ in range(rounds) for size in sizes]]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(Path(folder) / "checkpoint")
        for turn, size in enumerate(order):
            crawl = write_crawl(Path(folder) / f"crawl-{size}", size, unit_documents=UNIT_DOCUMENTS)
            measured = measure_run(crawl, Path(folder) / f"out-{turn}", checkpoint)
            if turn:
                found[size].append(measured)
    best = {size: _best(runs) for size, runs in found.items()}
    print(markdown_table([_row(measured) for measured in best.values()]))
    small, large = best[min(sizes)], best[max(sizes)]
    ratios = {
        "docs_per_s_ratio": large.docs_per_s / small.docs_per_s,
        "peak_memory_ratio_driver": large.driver_mib / small.driver_mib,
        "peak_memory_ratio_worker": large.worker_mib / small.worker_mib,
    }
    memory = max(ratios["peak_memory_ratio_driver"], ratios["peak_memory_ratio_worker"])
    numbers: Numbers = {**ratios, "peak_memory_ratio": memory}
    for name, value in numbers.items():
        print(f"{name:<26} {value:.3f}")
    return numbers | {
        f"{name}_{size}": value
        for size, measured in best.items()
        for name, value in asdict(measured).items()
    }


def _best(runs: Sequence[Measured]) -> Measured:
    """The quickest round, which others on the machine disturb least; memory at its most."""
    quickest = max(runs, key=lambda run: run.docs_per_s)
    return Measured(
        documents=quickest.documents,
        docs_per_s=quickest.docs_per_s,
        startup_s=quickest.startup_s,
        driver_mib=max(run.driver_mib for run in runs),
        worker_mib=max(run.worker_mib for run in runs),
    )


def _row(measured: Measured) -> dict[str, str]:
    return {
        "documents": f"{measured.documents:,}",
        "documents/s": f"{measured.docs_per_s:.1f}",
        "start-up s": f"{measured.startup_s:.1f}",
        "driver MiB": f"{measured.driver_mib:.0f}",
        "worker MiB": f"{measured.worker_mib:.0f}",
    }


def measure_run(crawl: Path, output: Path, checkpoint: str) -> Measured:
    """Run one extraction in a process of its own and watch it.

    Raises:
        RuntimeError: If the run fails.
    """
    command = [
        *(sys.executable, "-m", "linkner_ray.cli", "extract"),
        f"input.paths=[{crawl}]",
        *(f"output.path={output}", f"recognize.checkpoint={checkpoint}"),
        *("recognize.num_threads=1", "llm.backend=none"),
    ]
    started = time.time()
    driver = subprocess.Popen(  # noqa: S603 - our own command
        command,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with _Watch(driver.pid) as watch:
        _, errors = driver.communicate()
    if driver.returncode:
        raise RuntimeError(f"the run over {crawl} ended with {driver.returncode}: {errors[-2000:]}")
    rate = steady_rate(output)
    return Measured(
        documents=rate.documents,
        docs_per_s=rate.docs_per_s,
        startup_s=rate.first_at - started,
        driver_mib=watch.driver_mib,
        worker_mib=watch.worker_mib,
    )


class _Watch:
    """Samples the memory of a driver and of the workers of Ray on this machine."""

    def __init__(self, driver_pid: int) -> None:
        self.driver_mib = self.worker_mib = 0.0
        self._driver = psutil.Process(driver_pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_INTERVAL_S):
            try:
                memory = self._driver.memory_info()
            except psutil.NoSuchProcess:
                return
            self.driver_mib = max(self.driver_mib, (memory.rss - memory.shared) / MEBIBYTE)
            for worker in _ray_workers():
                try:
                    memory = worker.memory_info()
                except psutil.NoSuchProcess:
                    continue
                own = (memory.rss - memory.shared) / MEBIBYTE
                self.worker_mib = max(self.worker_mib, own)


def _ray_workers() -> list[psutil.Process]:
    """Workers below this process: of the Ray of its run, and of no other on the machine."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::"):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


if __name__ == "__main__":
    main()
