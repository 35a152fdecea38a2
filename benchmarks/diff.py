"""How long does `linkner diff` take for one document, by its entities, and in another order?

    python -m benchmarks.diff --entities 100,200,400,800,1600 --files 120 --json numbers.json

First one document whose entities all have another label in the later run. Then as many documents as
`--files` times 33, which the later run has in a random order: a file of the earlier run should not
be read for each of them.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import write_json
from linkner_ray.nightly import diff_rows
from linkner_ray.nightly.diff import compare_finished
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.runs import finished
from linkner_ray.runs.finished import FinishedRun
from linkner_ray.runs.row_index import document_digest
from linkner_ray.schemas import OUTPUT

Numbers = dict[str, object]

DOCUMENTS_A_FILE = 33


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entities", default="100,200,400,800,1600", help="comma-separated")
    parser.add_argument("--files", type=int, default=120, help="of each run")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    numbers: Numbers = {}
    for count in map(int, options.entities.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            runs = (
                write_run(Path(folder) / "before", [[0]], label="PER", entities=count),
                write_run(Path(folder) / "after", [[0]], label="ORG", entities=count),
            )
            started = time.process_time()
            diff = compare_finished(runs)
            numbers[f"cpu_s_{count}_entities"] = time.process_time() - started
            numbers[f"relabelled_{count}_entities"] = diff.causes["steps", "relabelled"]
    numbers |= _in_another_order(options.files)
    rows = [{"measure": name, "value": f"{value:,.4g}"} for name, value in numbers.items()]
    print(markdown_table(rows))
    if options.json:
        write_json(options.json, numbers)
    return numbers


def write_run(
    folder: Path, files: Sequence[Sequence[int]], *, label: str, entities: int
) -> FinishedRun:
    """A run of documents known by number, each with as many entities of one label."""
    (folder / "entities").mkdir(parents=True)
    names = [f"part-{number:05d}.parquet" for number in range(len(files))]
    for name, documents in zip(names, files, strict=True):
        rows = [_row(document, label, entities) for document in documents]
        pq.write_table(pa.Table.from_pylist(rows, OUTPUT), folder / "entities" / name)
    return FinishedRun(
        url=str(folder),
        fingerprint={},
        classes=("O", "PER", "ORG"),
        config={"output": {"keep_text": False, "keep_candidates": False}},
        code={},
        parts=tuple(names),
    )


def _row(document: int, label: str, entities: int) -> dict[str, object]:
    found = [
        {"start": 5 * n, "end": 5 * n + 4, "text": "Name", "label": label, "source": "local"}
        for n in range(entities)
    ]
    counts = dict.fromkeys(("num_chars", "num_sentences", "num_candidates", "num_routed"), 1)
    digest = document_digest(str(document))
    return {
        "doc_id": f"d{document}", "doc_digest": digest, "status": "entities", "entities": found,
        **counts,
    }  # fmt: skip


def _in_another_order(num_files: int) -> Numbers:
    documents = list(range(DOCUMENTS_A_FILE * num_files))
    shuffled = np.random.default_rng(0).permutation(len(documents)).tolist()
    with tempfile.TemporaryDirectory() as folder:
        before, after = (
            write_run(
                Path(folder) / label,
                [order[first::num_files] for first in range(num_files)],
                label=label,
                entities=2,
            )
            for label, order in (("PER", documents), ("ORG", shuffled))
        )
        started = time.process_time()
        with patch.object(diff_rows, "read_part", wraps=finished.read_part) as read:
            diff = compare_finished((before, after))
        seconds = time.process_time() - started
    return {
        "documents_in_another_order": diff.documents["same_text"],
        "reads_of_both_runs": read.call_count,
        "files_of_each": num_files,
        "cpu_s_in_another_order": seconds,
    }


if __name__ == "__main__":
    main()
