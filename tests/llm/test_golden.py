"""The prompt of each label set that ships, word for word.

A changed word is another question to the LLM: it names other requests, and what was measured with
the old words says nothing of the new ones. After a change that is meant, renew the files with

    RENEW_GOLDEN=1 python -m pytest tests/llm/test_golden.py

and read the difference before committing it.
"""

import os
from pathlib import Path

import pytest

from linkner_ray.labels import load_label_set, shipped_label_sets
from linkner_ray.llm.context import ContextSize, render_context
from linkner_ray.llm.prompts import Demonstration, PromptBuilder, choose_symbols
from tests.llm.caches import LABELS

FOLDER = Path(__file__).parent / "golden"

TEXT = "In 1843 [Ada] met Bo Peep.\nShe left."


def rendered(label_set, *, symbols, fixed=(), near=()):
    """Everything a backend is given, but for the names of model and recipe."""
    prompt_builder = PromptBuilder.for_label_set(label_set, symbols, model="", decoding="")
    question = render_context(
        TEXT, [(0, 26), (27, 36)], index=0, span=(18, 25), size=ContextSize(1, 2000)
    )
    request = prompt_builder.request(question, fixed=fixed, near=near)
    (_, system), (_, user) = request.messages
    options = "\n".join(f"{symbol} -> {class_id}" for symbol, class_id in request.options)
    return f"=== system\n{system}\n=== user\n{user}\n=== options\n{options}\n"


def check(name, content):
    path = FOLDER / f"{name}.txt"
    if os.environ.get("RENEW_GOLDEN"):
        path.write_text(content, encoding="utf-8")
    assert content == path.read_text(encoding="utf-8"), f"{path} differs; see {Path(__file__).name}"


@pytest.mark.parametrize("name", shipped_label_sets())
def test_the_prompt_of_a_label_set_is_the_agreed_one(name):
    label_set = load_label_set(name)
    check(name, rendered(label_set, symbols=choose_symbols(len(label_set.classes))))


@pytest.mark.parametrize("symbols", [(), ("person", "organization", "non-entity")])
def test_the_prompt_that_offers_names_alone_is_the_agreed_one(symbols):
    check("form_choice", rendered(LABELS, symbols=symbols))


def test_the_prompt_that_offers_other_words_for_names_that_begin_alike_is_the_agreed_one():
    words = ("DNA", "RNA", "protein", "cell line", "Cell type", "non-entity")
    check("form_name", rendered(load_label_set("bionlp_jnlpba"), symbols=words))


def test_the_prompt_with_demonstrations_is_the_agreed_one():
    def demonstration(text, start, end, class_id):
        question = render_context(
            text, [(0, len(text))], index=0, span=(start, end), size=ContextSize(0, 2000)
        )
        return Demonstration(question, class_id)

    fixed = (
        demonstration("IBM grew.", 0, 3, "ORG"),
        demonstration("Mr Hu of IBM left.", 3, 12, "O"),
    )
    near = (demonstration("Ada met Hu.", 8, 10, "PER"),)
    check("form_demonstrations", rendered(LABELS, symbols=("A", "B", "C"), fixed=fixed, near=near))


def test_no_golden_file_is_left_over():
    expected = {*shipped_label_sets(), "form_choice", "form_name", "form_demonstrations"}
    assert {path.stem for path in FOLDER.iterdir()} == expected
