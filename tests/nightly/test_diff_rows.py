"""Buckets of ids compared one by one give what a comparison of two lists of documents gives."""

import time
from collections import Counter
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkner_ray.nightly import diff_rows
from linkner_ray.nightly.diff import compare_finished
from linkner_ray.runs import finished, part_work
from linkner_ray.runs.finished import FinishedRun
from linkner_ray.schemas import OUTPUT

LABELS = ("PER", "ORG")


def write_run(folder, files):
    """A run of these rows, without text."""
    (folder / "entities").mkdir(parents=True)
    names = [f"part-{number}.parquet" for number in range(len(files))]
    for name, rows in zip(names, files, strict=True):
        pq.write_table(pa.Table.from_pylist(rows, OUTPUT), folder / "entities" / name)
    config = {"output": {"keep_text": False, "keep_candidates": False}}
    return FinishedRun(
        url=str(folder), fingerprint={}, classes=("O", *LABELS), config=config, code={},
        parts=tuple(names),
    )  # fmt: skip


def row(doc_id, digest, entities):
    """A document with entities given by start and label."""
    found = [
        {"start": start, "end": start + 2, "text": "ab"[start % 2], "label": label,
         "source": ("local", "llm")[start % 2]}
        for start, label in entities
    ]  # fmt: skip
    counts = dict.fromkeys(("num_chars", "num_sentences", "num_candidates", "num_routed"), 1)
    return {
        "doc_id": doc_id, "doc_digest": digest, "status": "entities", "entities": found, **counts,
    }  # fmt: skip


def drawn_rows(generator):
    """Forty documents: some ids twice, some texts edited, some entities changed."""
    rows = []
    for _ in range(40):
        starts = np.flatnonzero(generator.random(6) < 0.5)
        entities = [(int(3 * s), LABELS[generator.integers(2)]) for s in starts]
        rows.append(row(f"d{generator.integers(30)}", f"{generator.integers(2)}", entities))
    return rows


def split(rows, num_files):
    return [rows[first::num_files] for first in range(num_files)]


def expected(before, after):
    """The same counts by plain loops over the documents in the order of their files."""
    documents, kinds = Counter(dict.fromkeys(diff_rows.DOCUMENTS, 0)), Counter()
    waiting = {}
    for one in before:
        documents["repeated_id"] += one["doc_id"] in waiting
        waiting.setdefault(one["doc_id"], []).append(one)
    for one in after:
        partners = waiting.get(one["doc_id"])
        if not partners:
            documents["repeated_id"] += partners == []
            documents["only_after"] += 1
            kinds["added"] += len(one["entities"])
            continue
        other = partners.pop(0)
        same_text = one["doc_digest"] == other["doc_digest"]
        documents["same_text" if same_text else "other_text"] += 1
        first, second = (labels_by_key(r["entities"], same_text) for r in (other, one))
        for key in first.keys() | second.keys():
            pair = first.get(key), second.get(key)
            kinds[
                "added" if pair[0] is None else "removed" if pair[1] is None
                else "same" if pair[0] == pair[1] else "relabelled"
            ] += 1  # fmt: skip
    left = [one for partners in waiting.values() for one in partners]
    documents["only_before"] += len(left)
    kinds["removed"] += sum(len(one["entities"]) for one in left)
    return documents, kinds


def labels_by_key(entities, same_text):
    times, found = Counter(), {}
    for entity in entities:
        key = entity["start"] if same_text else (entity["text"], times[entity["text"]])
        times[entity["text"]] += 1
        found[key] = entity["label"]
    return found


@pytest.mark.parametrize("seed", range(5))
def test_buckets_count_what_loops_over_all_documents_count(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(part_work, "PIECE_FILES", 2)
    generator = np.random.default_rng(seed)
    files = split(drawn_rows(generator), 5), split(drawn_rows(generator), 4)
    runs = tuple(write_run(tmp_path / str(n), run) for n, run in enumerate(files))
    with patch.object(diff_rows, "read_part", wraps=finished.read_part) as read:
        diff = compare_finished(runs)
    assert read.call_count == 9  # each file once, though ids are all over them
    documents, kinds = expected(*([one for file in run for one in file] for run in files))
    assert diff.documents == documents
    found = Counter()
    for (_, _, kind), count in diff.entities.items():
        found[kind] += count
    assert found == kinds
    assert min(kinds[kind] for kind in ("added", "removed", "relabelled", "same")) > 0


def test_the_same_is_counted_by_the_later_runs_label_and_source(tmp_path):
    before = row("a", "1", [(0, "PER"), (3, "ORG"), (6, "ORG")])
    after = row("a", "1", [(0, "PER"), (3, "PER"), (9, "PER")])
    runs = tuple(write_run(tmp_path / n, [[r]]) for n, r in (("b", before), ("a", after)))
    diff = compare_finished(runs)
    # An even start is local, an odd one of the LLM.
    assert diff.entities == {
        ("PER", "local", "same"): 1,
        ("PER", "llm", "relabelled"): 1,
        ("PER", "llm", "added"): 1,
        ("ORG", "local", "removed"): 1,
    }
    assert diff.relabelled == {("ORG", "PER"): 1}
    assert [(e.kind, e.entity["start"]) for e in sorted(diff.examples, key=lambda e: e.kind)] == [
        ("added", 9), ("relabelled", 3), ("removed", 6),
    ]  # fmt: skip


def test_time_grows_with_the_entities_of_a_document_and_not_with_their_square(tmp_path):
    """Once 800 relabelled entities took 46 s."""
    both = [row("a", "1", [(3 * n, label) for n in range(3000)]) for label in LABELS]
    runs = tuple(write_run(tmp_path / str(n), [[one]]) for n, one in enumerate(both))
    started = time.process_time()
    assert compare_finished(runs).relabelled == {LABELS: 3000}
    assert time.process_time() - started < 2


def test_two_runs_without_documents_are_alike(tmp_path):
    runs = tuple(write_run(tmp_path / name, [[]]) for name in "ab")
    assert not any(compare_finished(runs).documents.values())
    assert not any(compare_finished((runs[0], write_run(tmp_path / "c", []))).documents.values())
