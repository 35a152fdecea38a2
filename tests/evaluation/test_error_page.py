"""The page of errors: what is an error of which kind, in which order; no text is markup."""

import pyarrow as pa

from linkner_ray.evaluation.error_page import NUM_LISTED, find_errors, render_errors
from linkner_ray.schemas import ANSWER, CANDIDATE, ENTITY, PREDICTIONS
from tests.pages import Page, text_of_card

TEXT = "Ada met <b>Bob</b> in New York City"
#       0-3      8-18          22-35, New York 22-30


def entity(start, end, label, uncertainty, source="local"):
    row = dict.fromkeys([field.name for field in ENTITY])
    return row | {
        "start": start, "end": end, "label": label, "uncertainty": uncertainty, "source": source,
    }  # fmt: skip


def candidate(start, end, label, uncertainty, kind="predicted", probs=None):
    row = dict.fromkeys([field.name for field in CANDIDATE])
    return row | {
        "start": start, "end": end, "label": label, "uncertainty": uncertainty, "kind": kind,
        "label_probs": probs,
    }  # fmt: skip


def answer(label, probs):
    row = dict.fromkeys([field.name for field in ANSWER])
    return row | {"verdict": "label", "label": label, "probs": probs}


def predictions(*rows):
    return pa.Table.from_pylist(list(rows), schema=PREDICTIONS)


def row(doc_id, gold, entities, candidates=(), routes=(), answers=()):
    return {
        "doc_id": doc_id,
        "text": TEXT,
        "gold": [dict(zip(("start", "end", "label"), one, strict=True)) for one in gold],
        "local": [],
        "entities": entities,
        "candidates": list(candidates),
        "routes": list(routes),
        "answers": list(answers),
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
        [
            candidate(0, 3, "PER", 0.9, probs=[0.25, 0.75, 0.0, 0.0]),
            candidate(22, 30, "LOC", 0.5, "near_miss"),
        ],
        ["llm", "llm"],
        [answer("LOC", [0.125, 0.25, 0.125, 0.5]), None],
    ),
)
CLASSES = ("O", "PER", "ORG", "LOC")
CONFUSION = {("PER", "ORG"): 1, ("LOC", "O"): 1, ("O", "LOC"): 1, ("PER", "LOC"): 1}


def test_each_kind_of_error():
    found = find_errors("set", predictions(*ROWS), CONFUSION, CLASSES)
    assert [(e.doc_id, e.start, e.end, e.gold) for e in found.boundary] == [
        ("d0", 22, 30, "New York City: LOC")
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


def test_the_hover_of_a_decision_that_was_right_names_both_models():
    [spoilt] = find_errors("set", predictions(*ROWS), CONFUSION, CLASSES).spoilt
    assert spoilt.hover.splitlines() == [
        "LOC by llm, uncertainty 0.900",
        "local label: PER; PER 0.750, O 0.250, ORG 0.000, LOC 0.000",
        "LLM label: LOC; LOC 0.500, PER 0.250, ORG 0.125, O 0.125",
    ]


def test_a_page_lists_some_and_says_of_how_many():
    many = [row(f"d{n}", [], [entity(0, 3, "PER", 0.5)]) for n in range(NUM_LISTED + 7)]
    found = find_errors("set", predictions(*many), {("O", "PER"): NUM_LISTED + 7}, ("O", "PER"))
    assert len(found.wrong) == NUM_LISTED + 7
    page = Page(render_errors([found], ("PER",)))
    assert f"surest errors: {NUM_LISTED + 7}" in page.text
    assert f"up to {NUM_LISTED} of each" in page.text
    assert len(page.cards) == NUM_LISTED


def test_a_page_has_errors_by_kind_and_a_table_of_confusion():
    html = render_errors(
        [find_errors("a & b", predictions(*ROWS), CONFUSION, CLASSES)], ("PER", "ORG", "LOC")
    )
    page = Page(html)
    assert "<b>Bob" not in html
    assert text_of_card(page.cards[0]) == TEXT
    assert page.data["groups"] == [
        "a & b: boundary errors",
        "a & b: surest errors",
        "a & b: right before asking, wrong after",
    ]
    assert page.cards[0]["title"] == "New York: LOC, gold New York City: LOC"
    assert [label for label, _ in page.data["labels"]] == ["PER", "ORG", "LOC", "O"]
    assert "O is no entity with these boundaries" in page.text.replace("\n", " ")
    lines = html[html.index("<tbody>") : html.index("</tbody>")].split("</tr>")
    cells = [[Page(cell).text.strip() for cell in line.split("</td>")[:-1]] for line in lines]
    # Rows of gold: PER, ORG, LOC, none; the corner where neither has an entity is left empty.
    assert [line for line in cells if line] == [
        ["PER", "0", "1", "1", "0"],
        ["ORG", "0", "0", "0", "0"],
        ["LOC", "0", "0", "0", "1"],
        ["O", "0", "0", "1", ""],
    ]
