"""Does a run that is killed anywhere end with the bytes of one never killed?

    python -m benchmarks.chaos --runs 100 --seed 0 --json chaos.json

Real runs of `jobs/extract.py` on a Ray of two nodes, with a small random model and an endpoint
whose answers follow from the question alone; local and on S3 (moto). Each run loses one process to
SIGKILL: the driver, an encoder actor, an LLM actor or the raylet of the second node at a random
moment, or the process that passes one of the named points of `linkner_ray.fault_injection`, in half
of these the driver with it. A run that did not end well is started again with the same command.
Then every file of the output is compared with that of a run that was left alone.
"""

import argparse
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import psutil
from s3fs import S3FileSystem

from benchmarks.chaos_parts import HashedLlm, TwoNodes, write_checkpoint, write_corpus
from benchmarks.measure import write_json
from linkner_ray.fault_injection import POINTS, VARIABLE, arm
from linkner_ray.storage import Folder

ROOT = Path(__file__).parent.parent

PROCESSES = ("driver", "encoder", "llm", "raylet")
STORES = ("local", "s3")

PASSINGS = {"write": 24, "rename": 24, "written": 10, "manifest": 1, "success": 1}
"""From how many passings of a point the fatal one is drawn; a run has 13 units."""

DEADLINE_S = 1800.0
"""A run that takes longer hangs. Actors that share a processor with eight others load for 400."""


@dataclass(slots=True)
class Tally:
    """Counts of runs and kills.

    Attributes:
        runs: Runs compared.
        mismatches: Of these, runs whose bytes differ; each with what differs in `differences`.
        kills: Kills by kind; a run that ended before its kill counts under `too_late`.
        healed: Runs that went on by themselves.
        restarted: Runs that were started again.
        units_resumed: Units that restarted runs found done.
    """

    runs: int = 0
    mismatches: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    too_late: int = 0
    healed: int = 0
    restarted: int = 0
    units_resumed: int = 0
    differences: list[str] = field(default_factory=list)


class Chaos:
    """Runs of one command against one cluster, left alone or not."""

    def __init__(self, folder: Path, cluster: TwoNodes, llm_url: str) -> None:
        """Give every run the same corpus, model and LLM."""
        self.folder, self.cluster = folder, cluster
        self.points = Path(os.environ[VARIABLE])
        self._llm_url = llm_url
        self._wanted: dict[str, dict[str, bytes]] = {}
        self._seconds = 0.0

    def output(self, store: str) -> str:
        """Where runs of a store write."""
        return "s3://chaos/out" if store == "s3" else str(self.folder / "out")

    def learn(self, store: str) -> None:
        """Run once without a kill, to know what bytes are wanted and how long it takes."""
        self._clear(store)
        started = time.monotonic()
        status = self._start(store).wait(DEADLINE_S)
        self._seconds = time.monotonic() - started
        if status:
            raise SystemExit(f"the run without a kill ended with {status}: {self._log()}")
        self._wanted[store] = files_of(self.output(store))

    def run(self, store: str, kind: str, dice: random.Random, tally: Tally) -> None:
        """One run with a kill, and again until it is done; then the comparison."""
        self._clear(store)
        with_driver = dice.random() < 0.5
        fatal = (
            arm(self.points, kind, passing=dice.randrange(PASSINGS[kind]))
            if (kind in POINTS)
            else None
        )
        moment_s = dice.uniform(0.2, 1.0) * self._seconds
        driver = self._start(store)
        if fatal is not None:
            killed = wait_for(lambda: not fatal.exists(), driver)
            if killed and with_driver:
                driver.kill()
        else:
            killed = self._kill(kind, driver, moment_s)
        status = driver.wait(DEADLINE_S)
        tally.runs += 1
        tally.kills[kind] += killed
        tally.too_late += not killed
        if status:
            tally.restarted += 1
            tally.units_resumed += len(Folder.at(self.output(store)).names("entities"))
            disarm(self.points)
            status = self._start(store).wait(DEADLINE_S)
        else:
            tally.healed += killed
        disarm(self.points)
        if kind == "raylet" and killed:
            self.cluster.add_second()
        differences = compare(self._wanted[store], files_of(self.output(store)))
        if status:
            differences.append(f"the run started again ended with {status}: {self._log()}")
        if differences:
            tally.mismatches += 1
            tally.differences.append(f"run {tally.runs}, {kind}, {store}: {differences}")

    def _kill(self, kind: str, driver: subprocess.Popen[bytes], moment_s: float) -> bool:
        """Kill a process of a kind at a moment, or as soon after it as there is one."""
        moment = time.monotonic() + moment_s

        def kill() -> bool:
            if time.monotonic() < moment:
                return False
            if kind == "driver":
                driver.kill()
                return True
            if kind == "raylet":
                self.cluster.kill_second()
                return True
            for victim in self.cluster.actors(kind):
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                    return True
            return False

        return wait_for(kill, driver)

    def _start(self, store: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, str(ROOT / "jobs" / "extract.py"),
            f"input.paths=[{self.folder / 'crawl'}]", "input.unit_documents=4",
            f"output.path={self.output(store)}", "output.keep_candidates=true",
            f"recognize.checkpoint={self.folder / 'model'}", "recognize.num_threads=1",
            "routing.threshold=0.3", "llm.backend=openai", "llm.model=hashed",
            f"llm.base_url={self._llm_url}", f"cache.path={self.folder / 'cache'}",
            "errors.max_share=0.2",
        ]  # fmt: skip
        with (self.folder / "driver.log").open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - our own job
                command,
                env={**os.environ, "RAY_ADDRESS": self.cluster.address},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _log(self) -> str:
        return (self.folder / "driver.log").read_text(errors="replace")[-2000:]

    def _clear(self, store: str) -> None:
        folder = Folder.at(self.output(store))
        folder.filesystem.invalidate_cache()
        if folder.filesystem.exists(folder.root):
            folder.filesystem.rm(folder.root, recursive=True)
        shutil.rmtree(self.folder / "cache", ignore_errors=True)


def wait_for(condition: Callable[[], bool], driver: subprocess.Popen[bytes]) -> bool:
    """Wait for something to become true while a driver runs; False if the driver was quicker."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if driver.poll() is not None:
            return condition()
        if time.monotonic() > deadline:
            raise SystemExit(f"a run hangs since {DEADLINE_S:g} s")
        time.sleep(0.01)
    return True


def disarm(points: Path) -> None:
    """Let every point be passed."""
    for path in points.glob("*"):
        path.unlink(missing_ok=True)


def files_of(url: str) -> dict[str, bytes]:
    """Content of every file of an output but its report, which tells times."""
    folder = Folder.at(url)
    folder.filesystem.invalidate_cache()
    files = {
        path.removeprefix(f"{folder.root}/"): folder.filesystem.cat_file(path)
        for path in folder.filesystem.find(folder.root)
    }
    return {n: raw for n, raw in files.items() if not n.startswith(("report", "plots/"))}


def compare(wanted: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    """What differs, file by file."""
    return [
        f"{name} {'differs' if name in wanted and name in found else 'is too much or missing'}"
        for name in sorted({*wanted, *found})
        if wanted.get(name) != found.get(name)
    ]


def schedule(runs: int, dice: random.Random) -> Iterator[tuple[str, str]]:
    """Kinds and stores, each as often as every other, in rounds of shuffled order.

    An object store has no hidden names, so there is no `rename` to be killed at.
    """
    combinations = [
        (kind, store)
        for kind in (*PROCESSES, *POINTS)
        for store in STORES
        if (kind, store) != ("rename", "s3")
    ]
    for number in range(runs):
        if number % len(combinations) == 0:
            dice.shuffle(combinations)
        yield combinations[number % len(combinations)]


@contextmanager
def surroundings(folder: Path) -> Iterator[Chaos]:
    """Corpus, model, LLM, S3 and cluster of all runs."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    write_corpus(folder / "crawl", seed=0)
    write_checkpoint(folder / "model", seed=0)
    llm = HashedLlm(delay_s=0.02)
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "chaos",
        "AWS_SECRET_ACCESS_KEY": "chaos",
        "AWS_DEFAULT_REGION": "us-east-1",
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        VARIABLE: str(folder / "points"),
    }
    with patch.dict(os.environ, environment):
        S3FileSystem.clear_instance_cache()  # its instances remember other servers
        Folder.at("s3://chaos").filesystem.makedirs("chaos", exist_ok=True)
        cluster = TwoNodes()
        try:
            yield Chaos(folder, cluster, llm.url)
        finally:
            cluster.close()
            store.stop()
            llm.close()
            S3FileSystem.clear_instance_cache()


def main(arguments: Sequence[str] | None = None) -> dict[str, object]:
    """Print and return `runs`, `mismatches` and what was killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the numbers, written after each run")
    options = parser.parse_args(arguments)
    dice = random.Random(options.seed)  # noqa: S311 - moments, no secrets
    tally = Tally()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, surroundings(Path(folder)) as chaos:
        learnt: set[str] = set()
        for kind, store in schedule(options.runs, dice):
            if store not in learnt:
                chaos.learn(store)
                learnt.add(store)
            chaos.run(store, kind, dice, tally)
            numbers = {
                **{name: getattr(tally, name) for name in Tally.__slots__},
                "kills": dict(sorted(tally.kills.items())),
                "seed": options.seed,
                "seconds": round(time.monotonic() - started, 1),
            }
            print(f"{tally.runs} {kind} {store}: {tally.mismatches} mismatches", flush=True)
            if options.json:
                write_json(options.json, numbers)
    print(json.dumps(numbers, indent=2))
    return numbers


if __name__ == "__main__":
    sys.exit(1 if main()["mismatches"] else 0)
