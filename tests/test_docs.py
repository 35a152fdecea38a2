"""Documentation names what is there."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
DECISIONS = sorted((ROOT / "docs" / "design").glob("2*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`([\w.]+/[\w./]+)`", text)
    tops = (ROOT, ROOT / "linkner_ray", ROOT / "linkner_ray" / "spanner" / "calibration",
            ROOT / "linkner_ray" / "llm" / "backends")  # fmt: skip
    missing = [name for name in named if not any((top / name).exists() for top in tops)]
    links = re.findall(r"\]\(([^):]+)\)", text)
    missing += [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_date_what_and_why(page):
    head, _, date, *_ = page.read_text(encoding="utf-8").splitlines()
    text = page.read_text(encoding="utf-8")
    assert head.startswith("# ")
    assert page.stem.startswith(date)
    assert all(part in text for part in ("**What.**", "**Why.**"))
    assert "**What was tried.**" in text or "**Not taken.**" in text


def test_every_library_has_a_line():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    names = {re.split(r"[\[<>=]", one)[0] for one in wanted}
    page = (ROOT / "docs" / "design" / "dependencies.md").read_text(encoding="utf-8").casefold()
    libraries = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    assert [name for name in names if name.casefold() not in libraries] == []
