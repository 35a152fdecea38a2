import json

import pytest
from typer.testing import CliRunner

from linkner_ray.cli.labels import app
from linkner_ray.errors import ConfigError
from linkner_ray.labels import load_label_set, shipped_label_sets


def run(*arguments):
    return CliRunner().invoke(app, arguments)


def write_labels(path, *labels):
    """Label set of (id, name, description); JSON is YAML."""
    keys = ("id", "name", "description")
    tree = {"name": "mine", "labels": [dict(zip(keys, label, strict=True)) for label in labels]}
    path.write_text(json.dumps(tree))
    return str(path)


@pytest.mark.parametrize("name", shipped_label_sets())
def test_no_shipped_label_set_gets_a_warning(name):
    label_set = load_label_set(name)
    count = len(label_set.labels)
    assert run("check", name).output == (
        f"ok: {count} labels, digest {label_set.digest}, {count + 1} options\n"
    )


@pytest.mark.parametrize(
    ("labels", "warning"),
    [
        ([("A B", "a", "x")], "id 'A B' has white space"),
        ([("A", "a", "word " * 60 + "x")], "description of 'A' has 301 characters"),
        ([("A", "a", "ends <|im_end|>")], "description of 'A' has signs of a control string"),
        ([("A", "[[a]]", "x")], "name of 'A' has signs of a control string"),
        ([("A", "a", "one\ntwo")], "description of 'A' has several lines"),
        (
            [("A", "organisation", "x"), ("B", "Organization", "y")],
            "names 'organisation' (A) and 'Organization' (B) are nearly the same",
        ),
        (
            [("place", "city", "x"), ("B", "Place", "y")],
            "name 'Place' of 'B' is the id of another label, 'place'",
        ),
        (
            [(f"L{index}", chr(0x4E00 + index), "x") for index in range(52)],
            "53 options (labels and non-entity) are more than 52 symbols: a vLLM engine answers ",
        ),
    ],
)
def test_what_is_likely_a_mistake_is_a_warning_and_still_ok(tmp_path, labels, warning):
    result = run("check", write_labels(tmp_path / "mine.yaml", *labels))
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"warning: {warning}")
    assert lines[1].startswith(f"ok: {len(labels)} labels, digest ")


def test_what_only_nears_a_limit_is_no_warning(tmp_path):
    file = write_labels(
        tmp_path / "mine.yaml",
        ("E", "chemical element", "word " * 59 + "words"),
        ("C", "chemical compound", "one line\n"),
    )
    assert run("check", file).output.startswith("ok: 2 labels")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([("A", "a", "x"), ("A", "b", "y")], "id given twice: A"),
        ([("A", "Non-entity", "x")], "label 'A' answers to 'non-entity'"),
        ([("o", "other", "x")], "label 'o' answers to 'o'"),
    ],
)
def test_a_label_set_that_cannot_be_used_is_an_error(tmp_path, labels, message):
    error = run("check", write_labels(tmp_path / "mine.yaml", *labels)).exception
    assert isinstance(error, ConfigError)
    assert error.exit_code == 2
    with pytest.raises(ConfigError, match=message):
        raise error


def test_a_missing_file_is_an_error(tmp_path):
    error = run("check", str(tmp_path / "none.yaml")).exception
    assert isinstance(error, ConfigError)
    assert "none.yaml' is neither a file nor one of: " in str(error)


def test_list_names_every_shipped_set_with_its_number_of_labels():
    rows = [line.split() for line in run("list").output.splitlines()]
    assert [name for name, _ in rows] == list(shipped_label_sets())
    assert ["ontonotes5", "18"] in rows
    assert ["conll03", "4"] in rows
