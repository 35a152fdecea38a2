"""What does it cost a process to open a large answer cache and to look answers up in it?

    python -m benchmarks.answer_index --entries 100000,1000000 --labels 18 --json numbers.json

Each row is a process of its own: `first` opens the answer cache on a node that has no index yet and
makes it, `next` finds the index there.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from benchmarks.measure import resident_bytes, write_json
from linkner_ray.errors import ContractError
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.cache.files import ENTRIES, CacheFolder
from linkner_ray.reporting.tables import markdown_table

Numbers = dict[str, object]

MODEL = "benchmark"
ROWS_A_FILE = 250_000
LOOKUP_BATCH = 256
LOOKUPS = 200


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", default="100000,1000000", help="comma-separated")
    parser.add_argument("--labels", type=int, default=18)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    numbers: Numbers = {}
    for count in map(int, options.entries.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            cache, node = Path(folder) / "cache", Path(folder) / "node"
            node.mkdir()
            write_answers(cache, count, _classes(options.labels))
            rows = []
            for way in ("first", "next"):
                measured = _in_a_process(
                    partial(_measure, cache, node, count, _classes(options.labels))
                )
                cells = {name: f"{value:,.4g}" for name, value in measured.items()}
                rows.append({f"{count:,} entries": way, **cells})
                numbers |= {f"{way}_{name}_{count}": n for name, n in measured.items()}
            sizes = {name: _bytes_below(path) for name, path in (("files", cache), ("index", node))}
            numbers |= {f"{n}_bytes_per_entry_{count}": size / count for n, size in sizes.items()}
        print(markdown_table(rows))
        print(*(f"{size / count:.0f} bytes an entry in {n}" for n, size in sizes.items()), sep=", ")
    if options.json:
        write_json(options.json, numbers)
    return numbers


def write_answers(folder: Path, count: int, classes: Sequence[str]) -> None:
    """Write answers with probabilities, the same each time."""
    for number, first in enumerate(range(0, count, ROWS_A_FILE)):
        rows = min(ROWS_A_FILE, count - first)
        rng = np.random.default_rng(number)
        probs = rng.dirichlet(np.ones(len(classes)), rows).astype(np.float32)
        best = probs.argmax(axis=1)
        names = pa.array(classes)
        flat = pa.StructArray.from_arrays(
            [
                pa.DictionaryArray.from_arrays(
                    pa.array(np.tile(np.arange(len(classes), dtype=np.int32), rows)), names
                ),
                pa.array(probs.ravel()),
            ],
            names=["class", "prob"],
        )
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * len(classes))
        columns = {
            "key": [key_of(first + row) for row in range(rows)],
            "verdict": ["label" if number else "non_entity" for number in best],
            "label": pa.array(np.asarray(classes)[best], mask=best == 0),
            "probs": pa.ListArray.from_arrays(offsets, flat, type=ENTRIES.field("probs").type),
            "model": [MODEL] * rows,
            "revision": ["folder-0123456789abcdef"] * rows,
            "prompt_tokens": pa.array(200 + np.arange(rows) % 100, pa.int32()),
            "latency_s": pa.array(rng.random(rows), pa.float32()),
            "time": [datetime(2026, 1, 1, tzinfo=UTC)] * rows,
        }
        CacheFolder(str(folder)).append(number, pa.table(columns, ENTRIES))


def key_of(number: int) -> str:
    """Name of a request; the numbers are spread as digests are."""
    spread = (number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128  # odd, so each number has one
    return f"k1:{spread:032x}"


def _classes(labels: int) -> list[str]:
    return ["O", *(f"LABEL_{number}" for number in range(labels))]


def _measure(cache: Path, node: Path, count: int, classes: Sequence[str]) -> dict[str, float]:
    """What an answer cache costs, in this process; every second key looked up is known."""
    before = resident_bytes("RssAnon")
    started, worked = time.perf_counter(), time.process_time()
    with patch("linkner_ray.llm.cache.answer_index.gettempdir", return_value=str(node)):
        held = AnswerCache(str(cache), model=MODEL, classes=classes)
    return {
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - worked,
        "own_bytes_per_entry": max(0, resident_bytes("RssAnon") - before) / count,
        "found_per_cpu_s": _found_per_s(held, count),
        "peak_mib": resident_bytes("VmHWM") / 2**20,
    }


def _found_per_s(cache: AnswerCache, count: int) -> float:
    """Keys that are looked up in a second of processor time."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2 * count, (LOOKUPS, LOOKUP_BATCH)).tolist()
    wanted = [sorted({key_of(number) for number in batch}) for batch in numbers]
    known = {key_of(n) for batch in numbers for n in batch if n < count}
    started = time.process_time()
    found = sum(len(cache.find(keys)) for keys in wanted)
    seconds = time.process_time() - started
    expected = sum(key in known for keys in wanted for key in keys)
    if found != expected:
        raise ContractError(f"{found} of {expected} answers were found; nothing is timed")
    return sum(map(len, wanted)) / seconds


def _in_a_process(measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure)


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
