"""Documentation names what is there."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from docs import generate
from docs.error_texts import PARTS, error_texts
from linkner_ray.cli.app import OLD_COMMANDS
from linkner_ray.config.old_names import OLD_KEYS
from linkner_ray.config.validation import known_keys

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# Those of the past name what was there then.
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if page.parent.name != "lab-log"),
]
GENERATED = generate.pages()
DECISIONS = sorted((ROOT / "docs" / "design").glob("2*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`([\w.]+/[\w./]+)`", text)
    tops = (ROOT, ROOT / "linkner_ray", ROOT / "linkner_ray" / "spanner" / "calibration",
            ROOT / "linkner_ray" / "llm" / "backends")  # fmt: skip
    missing = [name for name in named if not any((top / name).exists() for top in tops)]
    links = re.findall(r"\]\(([^):]+)\)", text)
    missing += [link for link in links if not (page.parent / link.partition("#")[0]).exists()]
    assert not missing


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_date_what_and_why(page):
    head, _, date, *_ = page.read_text(encoding="utf-8").splitlines()
    text = page.read_text(encoding="utf-8")
    assert head.startswith("# ")
    assert page.stem.startswith(date)
    assert all(part in text for part in ("**What.**", "**Why.**"))
    assert "**What was tried.**" in text or "**Not taken.**" in text


@pytest.mark.parametrize(("path", "text"), GENERATED.items())
def test_generated_pages_are_current(path, text):
    assert (DOCS / path).read_text(encoding="utf-8") == text, "run `make fix`"


@pytest.mark.parametrize("page", ["reference/configuration.md", "reference/columns.md"])
def test_every_key_and_column_has_a_meaning(page):
    rows = re.findall(r"^\| `.*\|$", GENERATED[page], re.MULTILINE)
    assert len(rows) > 50
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_menu_of_the_site_has_every_page():
    def files(menu):
        for entry in menu:
            below = entry if isinstance(entry, str) else next(iter(entry.values()))
            yield from [below] if isinstance(below, str) else files(below)

    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    # Their pages of contents list these.
    listed = set(DOCS.rglob("2*.md"))
    assert sorted(files(menu)) == sorted(
        str(page.relative_to(DOCS)) for page in set(DOCS.rglob("*.md")) - listed
    )


def texts_of(path):
    """The texts in a module, but for docstrings; one in several pieces is whole."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield str(node.value)


def test_messages_of_troubleshooting_exist():
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    words = [word for cell in cells for quoted in re.findall(r"`([^`]+)`", cell)
             for word in quoted.split("...")]  # fmt: skip
    modules = sorted((ROOT / "linkner_ray").rglob("*.py"))
    source = " ".join(text for path in modules for text in texts_of(path))
    assert len(words) > 80
    assert [word for word in words if word.strip() not in source] == []


@pytest.mark.parametrize(
    ("text", "part", "code"),
    [
        ("override '...': expected KEY=VALUE, such as routing.threshold=0.3", "Configuration", 2),
        ("RAY_ADDRESS=...: Ray does not answer: ...; start it", "Running", 4),  # of a function
        ("...: not found (404); check llm.base_url and llm.model", "The LLM", 4),  # of a variable
        ("... was taken over ...: this run was silent for", "Output", 1),  # of an attribute
        ("unit ... of ...: ... records in, ... accounted for", "Bugs", 1),
        ("texts[...] is ..., no str; decode it, or leave it out", "From Python", None),
    ],
)
def test_error_texts_are_read_from_the_source(text, part, code):
    [found] = [one for one in error_texts() if one.text.startswith(text)]
    assert found.part.startswith(part)
    assert found.exit_code == code


def test_every_module_with_an_error_is_on_the_page():
    package = ROOT / "linkner_ray"
    tops = {path.relative_to(package).parts[0] for path in package.rglob("*.py")
            if re.search(r"raise (\w*Error)\(", path.read_text(encoding="utf-8"))}  # fmt: skip
    assert tops <= {name for names in PARTS.values() for name in names}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_keys_that_a_page_names_exist(page):
    known = {key for kind in generate.COMMANDS for key in known_keys(kind)}
    sections = {key for key in known if "." not in key}
    named = re.findall(r"(?<![\w./-])([a-z]+(?:\.[a-z_]+)+)(?![\w./(])", page.read_text("utf-8"))
    files = re.compile(r".*\.(conll|dev|html|json|md|train|yaml)")
    keys = {one for one in named if one.partition(".")[0] in sections and not files.fullmatch(one)}
    assert page.stem == "changelog" or keys <= known, keys - known


@pytest.mark.parametrize(("old", "said"), (OLD_KEYS | OLD_COMMANDS).items())
def test_the_changelog_names_what_each_old_name_became(old, said):
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    name = old.rpartition("=")[2]
    if new := re.fullmatch("is called ['`](?:linkner )?(.*)['`] now", said):
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert any(name in row and new[1].split()[-1] in row for row in rows)
    else:
        removed = text.partition("### Removed")[2].partition("###")[0]
        *command, last = name.split()
        assert f"{last}`" in removed
        assert all(f"linkner {word} " in removed for word in command)


def test_every_library_has_a_line():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    names = {re.split(r"[\[<>=]", one)[0] for one in wanted}
    page = (ROOT / "docs" / "design" / "dependencies.md").read_text(encoding="utf-8").casefold()
    libraries = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    assert [name for name in names if name.casefold() not in libraries] == []
