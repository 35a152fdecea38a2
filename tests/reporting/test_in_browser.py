"""Every page in a real browser: no complaint, nothing wider than the window, and what it does.

With `LINKNER_SCREENSHOTS` naming a folder, pictures of all pages are put there.
"""

import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from linkner_ray.evaluation.error_page import find_errors, render_errors
from linkner_ray.nightly.diff import Diff
from linkner_ray.nightly.diff_page import render_diff
from linkner_ray.nightly.diff_rows import Change, Place
from linkner_ray.reporting.preview_page import render_preview
from linkner_ray.reporting.run_report import write_report
from linkner_ray.schemas import PREDICTIONS
from tests.browser import look_at, needs_browser, take_pictures
from tests.reporting.test_run_report import TIMELINE, TOTALS, run_report

pytestmark = needs_browser

LABELS = ("PER", "ORG", "LOC", "MISC")
CLASSES = ("O", *LABELS)
WIDTHS = (1280, 400)
HOSTILE = "<img src=x onerror=console.error('ran')><script>console.error('ran')</script>"

SENTENCE = "Ada Lovelace of Siemens met Élan 🎻 in New York, " + "x" * 40 + ". " + HOSTILE + "\n"
SPANS = ((0, 12, "PER", 0.05), (16, 23, "ORG", 0.35), (28, 32, "MISC", 0.8), (38, 46, "LOC", 0.2))


def entities_of(offset=0):
    for start, end, label, uncertainty in SPANS:
        asked = uncertainty > 0.3
        yield {
            "start": offset + start,
            "end": offset + end,
            "text": SENTENCE[start:end],
            "label": label,
            "score": 1 - uncertainty,
            "uncertainty": uncertainty,
            "source": "llm" if asked else "local",
            "local_label": None if uncertainty > 0.7 else label,
            "llm_label": label if asked else None,
        }


def documents(count, sentences=3):
    for number in range(count):
        offsets = [place * len(SENTENCE) for place in range(sentences)]
        entities = [entity for offset in offsets for entity in entities_of(offset)]
        yield {
            "doc_id": f"page-{number:05d}",
            "url": f"https://example.org/{'long-' * 20}{number}",
            "num_routed": 2 * sentences,
            "text": SENTENCE * sentences,
            "entities": entities,
            "candidates": [
                {**one, "label_probs": [0.1, *(0.225 for _ in LABELS)]} for one in entities
            ],
            "answers": [
                {"probs": [0.2] * 5} if one["source"] == "llm" else None for one in entities
            ],
        }


def preview(count):
    note = "Pages made for this test, with markup in them."
    return render_preview(documents(count), LABELS, title="Pages", notes=(note,))


def errors(count):
    gold = [{"start": 0, "end": 12, "label": "ORG"}, {"start": 38, "end": 41, "label": "LOC"}]
    rows = [
        {"doc_id": f"set-{n:06d}", "text": SENTENCE, "gold": gold, "local": [],
         "entities": list(entities_of()), "candidates": [], "routes": [], "answers": []}
        for n in range(count)
    ]  # fmt: skip
    confusion = {("ORG", "PER"): count, ("O", "ORG"): count, ("LOC", "LOC"): 3 * count}
    table = pa.Table.from_pylist(rows, schema=PREDICTIONS)
    return render_errors([find_errors("news", table, confusion, CLASSES)], LABELS)


def diff(count):
    one = next(entities_of())
    changes = [
        Change(
            doc_id=f"page-{number}", url=None, kind=("relabelled", "added")[number % 2],
            cause="text", before=None if number % 2 else one, after={**one, "label": "ORG"},
            place=Place(1, 0, number), text=SENTENCE,
        )
        for number in range(min(count, 50))
    ]  # fmt: skip
    return render_diff(
        Diff(
            before="nights/monday", after="nights/tuesday",
            changed={"routing": ["routing.threshold was 0.24, is 0.35"]},
            documents=Counter(same_text=count, other_text=1),
            entities=Counter({("ORG", "local", "relabelled"): count, ("PER", "llm", "same"): 7}),
            relabelled=Counter({("PER", "ORG"): count}),
            causes=Counter({("text", "relabelled"): count}),
            examples=tuple(changes),
        )
    )  # fmt: skip


def report(count):
    files = {}
    totals = {**TOTALS, "documents_read": count, "entities_ORG": 12, "source_local_ORG": 12}
    run = run_report(timeline=TIMELINE, totals=totals, notes=(HOSTILE,), title="Extraction")
    write_report(run, write_bytes=files.__setitem__)
    return files["report.html"].decode()


MADE = {"report": report, "preview": preview, "errors": errors, "diff": diff}

LOOK = """(page, window) => {
  const all = selector => [...page.querySelectorAll(selector)];
  const click = element => element && element.click();
  const cards = () => all("article").length;
  const marks = () => all("article mark").length;
  const found = {
    wider: page.documentElement.scrollWidth - window.innerWidth,
    tables: all("table").length, pictures: all("svg").length,
    images: all("img").length, scripts: all("script").length,
    cards: cards(), marks: marks(), shown: page.querySelector("#pager")?.textContent,
    text: page.querySelector("article .text")?.textContent,
  };
  const mark = page.querySelector("article mark");
  if (mark) {
    mark.focus();
    mark.dispatchEvent(new window.MouseEvent("mouseover", { bubbles: true }));
    found.hover = page.querySelector("#hover").textContent;
    click(page.querySelector("#tools [type=checkbox]"));
    found.marksWithoutFirstLabel = marks();
    click(page.querySelector("#tools [type=checkbox]"));
    const least = page.querySelector("[type=range]");
    least.value = 0.3;
    least.dispatchEvent(new window.Event("input", { bubbles: true }));
    found.uncertainMarks = marks();
    least.value = 0;
    least.dispatchEvent(new window.Event("input", { bubbles: true }));
    click(all("#pager button")[1]);
    found.next = page.querySelector("article h2").textContent;
    click(all("#pager button")[0]);
  }
  const sums = all("tbody tr").find(row => row.cells[0].textContent === "all");
  if (sums) {
    click(sums.closest("table").querySelectorAll("th")[1]);
    found.sumsAreLast = sums === sums.parentElement.lastElementChild;
  }
  const head = all("th.sorts").at(-1);
  if (head) {
    const column = () =>
      [...head.closest("table").tBodies[0].rows].map(row => row.cells[head.cellIndex].textContent);
    click(head);
    found.sorted = [head.getAttribute("aria-sort"), column()];
    click(head);
    found.reversed = [head.getAttribute("aria-sort"), column()];
  }
  window.scrollTo(0, 0);
  return found;
}"""


@pytest.fixture(scope="module")
def looks(tmp_path_factory):
    """What each page does with 1 and with 1,000 documents at both widths, and the console."""
    pages = {f"{name}-{count}": MADE[name](count) for name in MADE for count in (1, 1000)}
    if folder := os.environ.get("LINKNER_SCREENSHOTS"):
        take_pictures(pages, Path(folder), widths=WIDTHS)
    return look_at(pages, tmp_path_factory.mktemp("pages"), script=LOOK, widths=WIDTHS)


def test_no_page_complains_and_no_hostile_markup_runs(looks):
    assert looks[1] == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("count", [1, 1000])
@pytest.mark.parametrize("name", MADE)
def test_a_page_fits_its_window_and_has_no_element_of_the_text(looks, name, count, width):
    found = looks[0][f"{name}-{count}", str(width)]
    assert found["wider"] <= 0
    assert found["images"] == 0
    assert found["scripts"] == (1 if name == "report" else 2)
    if name != "report":
        assert 1 <= found["cards"] <= 25
        assert HOSTILE.rstrip() in found["text"] or name == "diff"


def test_a_thousand_documents_are_shown_some_at_a_time(looks):
    found = looks[0]["preview-1000", "1280"]
    assert found["shown"] == "PreviousNext1 to 25 of 1,000"
    assert found["next"] == "page-00025"


def test_marks_are_chosen_by_label_and_uncertainty_and_tell_what_both_models_said(looks):
    found = looks[0]["preview-1", "400"]
    assert found["marks"] == 4 * 3
    assert found["marksWithoutFirstLabel"] == 3 * 3
    assert found["uncertainMarks"] == 2 * 3  # 0.35 and 0.8
    assert found["hover"].splitlines() == [
        "PER by local, score 0.950, uncertainty 0.050",
        "local label: PER; PER 0.225, ORG 0.225, MISC 0.225, LOC 0.225",
        "LLM label: none",
    ]


def test_a_table_sorts_by_a_click_numbers_from_the_largest(looks):
    direction, column = looks[0]["report-1", "1280"]["sorted"]
    assert direction == "descending"
    numbers = [float(cell.replace(",", "")) for cell in column]
    assert numbers == sorted(numbers, reverse=True)
    assert looks[0]["report-1", "1280"]["reversed"] == ["ascending", column[::-1]]
    assert looks[0]["report-1", "1280"]["sumsAreLast"]
