"""What does it cost to keep answers in the answer cache, and to find them again?

    python -m benchmarks.answer_cache --entries 100000,1000000 --json numbers.json

Beside it stands a table of SQLite with the key as its primary key, told to be as durable: what one
call of `add` was given is on the disk when it returns. Both are asked first whether they agree.
The table needs one disk that all writers see, the answer cache also takes an object store; it looks
up in an index on the node, of which `benchmarks.answer_index` tells more.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.answer_cache_stores import STORES, Store, batches, key_of, make_entries
from benchmarks.measure import load_average, peak_memory_mib, write_json
from linkner_ray.errors import ContractError
from linkner_ray.reporting.tables import markdown_table

Numbers = dict[str, object]

LOOKUP_BATCH = 256
"""Keys looked up at once: what a unit of the default size asks, about."""

LOOKUPS = 100

MEASURES = {
    "added_per_s": "added/s",
    "found_per_s": "looked up/s",
    "open_s": "opened in s",
    "two_writers_per_s": "two writers, added/s",
    "disk_bytes_per_entry": "bytes on disk",
    "memory_bytes_per_entry": "bytes of memory at the peak of opening",
}


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=_counts, default=(100_000,), help="comma-separated")
    parser.add_argument("--batch", type=int, default=1024, help="answers in one call of `add`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where to write; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    numbers: Numbers = {"batch": options.batch, "rounds": options.rounds}
    numbers["load_average_before"] = load_average()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        check_parity(Path(folder) / "parity")
        for count in options.entries:
            measured = _measure(Path(folder), count, options.batch, options.rounds)
            print(_report(count, measured), "\n", flush=True)
            numbers |= _flat(count, measured)
    numbers["load_average_after"] = load_average()
    if options.json:
        write_json(options.json, numbers)
    return numbers


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def check_parity(folder: Path) -> None:
    """Have every store keep and find the same.

    Raises:
        ContractError: If they differ in what they find, also after they are opened anew.
    """
    found = {}
    for name, store_class in STORES.items():
        store = store_class(folder / name)
        for numbers in batches(3000, 1000):
            store.add(make_entries(numbers))
        # Half is known already and must stay as it was.
        store.add(make_entries(range(2000, 4000), writer="second"))
        store.close()
        again = store_class(folder / name)
        found[name] = again.find([key_of(number) for number in range(0, 5000, 7)])
        found[f"len {name}"] = len(again)
        again.close()
    if found["cache"] != found["sqlite"] or {found["len cache"], found["len sqlite"]} != {4000}:
        raise ContractError(
            f"cache and sqlite differ: {len(found['cache'])} and {len(found['sqlite'])} found, "
            f"{found['len cache']} and {found['len sqlite']} kept; nothing is timed"
        )


def _measure(folder: Path, count: int, batch: int, rounds: int) -> dict[str, list[Numbers]]:
    """Measures of each store and round."""
    made = [make_entries(numbers) for numbers in batches(count, batch)]
    measured: dict[str, list[Numbers]] = {name: [] for name in STORES}
    names = list(STORES)
    for turn in range(rounds):
        place = turn % len(names)
        for name in names[place:] + names[:place]:
            own = folder / f"{name}-{count}-{turn}"
            measured[name].append(_measure_one(name, own, made, count))
    return measured


def _measure_one(name: str, folder: Path, made: Sequence[Sequence], count: int) -> Numbers:
    store = STORES[name](folder / "one")
    started = time.perf_counter()
    for entries in made:
        store.add(entries)
    numbers: Numbers = {"added_per_s": count / (time.perf_counter() - started)}
    store.close()
    held: list[Store] = []
    seconds: list[float] = []

    def reopen() -> None:
        begun = time.perf_counter()
        held.append(STORES[name](folder / "one"))
        held[0].find([key_of(0)])
        seconds.append(time.perf_counter() - begun)

    memory = peak_memory_mib(reopen)
    numbers["open_s"] = seconds[0]
    numbers["memory_bytes_per_entry"] = None if memory is None else memory * 2**20 / count
    numbers["found_per_s"] = _found_per_s(held[0], count)
    held[0].close()
    files = [path for path in (folder / "one").rglob("*") if path.is_file()]
    numbers["disk_bytes_per_entry"] = sum(path.stat().st_size for path in files) / count
    numbers["two_writers_per_s"] = _two_writers(name, folder / "two", count, len(made[0]))
    return numbers


def _found_per_s(store: Store, count: int) -> float:
    """Keys looked up in a second; every second one is known."""
    step = max(1, 2 * count // (LOOKUPS * LOOKUP_BATCH))
    wanted = [key_of(number * step) for number in range(LOOKUPS * LOOKUP_BATCH)]
    known = sum(number * step < count for number in range(len(wanted)))
    started = time.perf_counter()
    found = sum(
        len(store.find(wanted[first : first + LOOKUP_BATCH]))
        for first in range(0, len(wanted), LOOKUP_BATCH)
    )
    seconds = time.perf_counter() - started
    if found != known:
        raise ContractError(f"{type(store).__name__} found {found} of {known} answers")
    return len(wanted) / seconds


def _two_writers(name: str, folder: Path, count: int, batch: int) -> float:
    """Answers kept in a second by two processes; half of what each has, the other has too.

    Raises:
        ContractError: If an answer is missing afterwards.
    """
    context = multiprocessing.get_context("spawn")
    ready, queue = context.Barrier(2), context.Queue()
    third = count // 3
    parts = {"first": range(2 * third), "second": range(third, 3 * third)}
    writers = [
        context.Process(target=_write, args=(name, folder, numbers, batch, writer, ready, queue))
        for writer, numbers in parts.items()
    ]
    for writer in writers:
        writer.start()
    times = [queue.get() for _ in writers]
    for writer in writers:
        writer.join()
    store = STORES[name](folder)
    if len(store) != 3 * third:
        raise ContractError(f"{name}: two writers left {len(store)} of {3 * third} answers")
    store.close()
    began, ended = zip(*times, strict=True)
    return 3 * third / (max(ended) - min(began))


def _write(  # noqa: PLR0913, PLR0917 - what a process is handed
    name: str,
    folder: Path,
    numbers: range,
    batch: int,
    writer: str,
    ready: Barrier,
    queue: "multiprocessing.Queue[tuple[float, float]]",
) -> None:
    """Add answers as soon as the other process is ready too; `spawn` needs it at the top."""
    made = [
        make_entries(numbers[first : first + batch], writer=writer)
        for first in range(0, len(numbers), batch)
    ]
    store = STORES[name](folder)
    ready.wait()
    began = time.time()
    for entries in made:
        store.add(entries)
    queue.put((began, time.time()))
    store.close()


def _flat(count: int, measured: dict[str, list[Numbers]]) -> Numbers:
    """Medians by store, and how many times as much the answer cache has in the median round."""
    numbers: Numbers = {}
    for key in MEASURES:
        for name, rounds in measured.items():
            values = [one[key] for one in rounds]
            numbers[f"{key}_{name}_{count}"] = None if None in values else statistics.median(values)
        pairs = [
            (ours[key], theirs[key])
            for ours, theirs in zip(measured["cache"], measured["sqlite"], strict=True)
        ]
        known = [ours / theirs for ours, theirs in pairs if ours is not None and theirs]
        numbers[f"ratio_cache_to_sqlite_{key}_{count}"] = (
            statistics.median(known) if known else None
        )
    return numbers


def _report(count: int, measured: dict[str, list[Numbers]]) -> str:
    numbers = _flat(count, measured)

    def cell(value: object) -> str:
        if not isinstance(value, float):
            return "-"
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

    rows = [
        {
            f"{count:,} entries": title,
            **{name: cell(numbers[f"{key}_{name}_{count}"]) for name in measured},
            "ratio": cell(numbers[f"ratio_cache_to_sqlite_{key}_{count}"]),
        }
        for key, title in MEASURES.items()
    ]
    return markdown_table(rows)


if __name__ == "__main__":
    main()
