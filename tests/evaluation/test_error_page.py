"""The page of errors: what is an error of which kind, in which order; no text is markup."""

import re

import pyarrow as pa

from linkner_ray.evaluation.error_page import NUM_LISTED, find_errors, render_errors
from linkner_ray.schemas import CANDIDATE, ENTITY, PREDICTIONS

TEXT = "Ada met <b>Bob</b> in New York City"
#       0-3      8-18          22-35, New York 22-30


def entity(start, end, label, uncertainty, source="local"):
    row = dict.fromkeys([field.name for field in ENTITY])
    return row | {
        "start": start, "end": end, "label": label, "uncertainty": uncertainty, "source": source,
    }  # fmt: skip


def candidate(start, end, label, uncertainty, kind="predicted"):
    row = dict.fromkeys([field.name for field in CANDIDATE])
    return row | {
        "start": start, "end": end, "label": label, "uncertainty": uncertainty, "kind": kind,
    }  # fmt: skip


def predictions(*rows):
    return pa.Table.from_pylist(list(rows), schema=PREDICTIONS)


def row(doc_id, gold, entities, candidates=(), routes=()):
    return {
        "doc_id": doc_id,
        "text": TEXT,
        "gold": [dict(zip(("start", "end", "label"), one, strict=True)) for one in gold],
        "local": [],
        "entities": entities,
        "candidates": list(candidates),
        "routes": list(routes),
        "answers": [None] * len(routes),
    }


ROWS = (
    row(
        "d0",
        [(0, 3, "PER"), (22, 35, "LOC")],
        [entity(0, 3, "ORG", 0.4), entity(22, 30, "LOC", 0.1)],
    ),
    row(
        "d1",
        [(0, 3, "PER")],
        [entity(0, 3, "LOC", 0.9, "llm"), entity(8, 18, "PER", 0.2)],
        [candidate(0, 3, "PER", 0.9), candidate(22, 30, "LOC", 0.5, "near_miss")],
        ["llm", "llm"],
    ),
)
CONFUSION = {("PER", "ORG"): 1, ("LOC", "O"): 1, ("O", "LOC"): 1, ("PER", "LOC"): 1}


def test_each_kind_of_error():
    found = find_errors("set", predictions(*ROWS), CONFUSION)
    assert [(e.doc_id, e.start, e.end, e.note) for e in found.boundary] == [
        ("d0", 22, 30, "gold: New York City")
    ]
    # All entities that gold does not have, the surest first.
    assert [(e.uncertainty, e.ours, e.gold) for e in found.wrong] == [
        (float(pa.scalar(u, pa.float32()).as_py()), ours, gold)
        for u, ours, gold in [
            (0.1, "LOC", "O"),
            (0.2, "PER", "O"),
            (0.4, "ORG", "PER"),
            (0.9, "LOC", "PER"),
        ]
    ]
    # The PER that the LLM made a LOC; the near miss was refused and stayed right.
    assert [(e.doc_id, e.start, e.ours, e.gold, e.note) for e in found.spoilt] == [
        ("d1", 0, "LOC", "PER", "local: PER")
    ]
    assert [len(kind) for kind in (found.boundary, found.wrong, found.spoilt)] == [1, 4, 1]


def test_a_page_lists_some_and_says_of_how_many():
    many = [row(f"d{n}", [], [entity(0, 3, "PER", 0.5)]) for n in range(NUM_LISTED + 7)]
    found = find_errors("set", predictions(*many), {("O", "PER"): NUM_LISTED + 7})
    assert len(found.wrong) == NUM_LISTED + 7
    page = render_errors([found], ["PER"])
    assert f"{NUM_LISTED} of {NUM_LISTED + 7}." in page
    assert page.count("<article>") == NUM_LISTED


def test_a_page_is_no_markup_of_the_text_and_names_the_class_of_no_entity():
    page = render_errors(
        [find_errors("a & b", predictions(*ROWS), CONFUSION)], ["PER", "ORG", "LOC"]
    )
    assert "<b>Bob" not in page
    assert "&lt;b&gt;Bob&lt;/b&gt;" in page
    assert "default-src 'none'" in page
    assert "a &amp; b" in page
    assert "O is no entity with these boundaries" in page
    table = re.search(r"<table>(.*?)</table>", page, re.DOTALL)[1]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in table.split("</tr>")]
    # Rows of gold: PER, ORG, LOC, none; the corner where neither has an entity is left empty.
    assert [line for line in cells if line] == [
        ["0", "1", "1", "0"],
        ["0", "0", "0", "0"],
        ["0", "0", "0", "1"],
        ["0", "0", "1", ""],
    ]
