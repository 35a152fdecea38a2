"""What a program that calls a command finds on standard output and in files."""

import json
import subprocess
import sys

import pytest

from linkner_ray.cli import main
from linkner_ray.cli.output import check_replaceable, kept_output, set_output, write_json
from linkner_ray.errors import ConfigError
from linkner_ray.reporting.html_page import render_page

LISTED = ["labels", "list"]


def test_with_a_dash_standard_output_is_json_and_what_is_said_goes_to_standard_error(capsys):
    assert main([*LISTED, "--json", "-"]) == 0
    seen = capsys.readouterr()
    tree = json.loads(seen.out)
    assert tree["format"] == "linkner-label-sets"
    assert tree["label_sets"]["conll03"] == ["PER", "ORG", "LOC", "MISC"]
    assert "conll03" in seen.err
    sys.stdout.write("after\n")
    assert capsys.readouterr().out == "after\n"


def test_a_file_gets_the_same_and_text_is_printed(tmp_path, capsys):
    assert main([*LISTED, "--json", "-"]) == 0
    expected = capsys.readouterr().out
    assert main([*LISTED, "--json", str(tmp_path / "a.json")]) == 0
    assert (tmp_path / "a.json").read_text() == expected
    assert "conll03" in capsys.readouterr().out


def test_nothing_but_json_comes_out_of_a_process_whatever_writes_there():
    script = (
        "import os, subprocess, sys\n"
        "from linkner_ray.cli.output import *\n"
        "with kept_output():\n"
        "    set_output(json_file='-')\n"
        "    print('ours'); os.write(1, b'engine\\n'); subprocess.run(['echo', 'child'])\n"
        "    write_json('-', 'kind', {'a': 1})\n"
        "print('after')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == '{\n  "format": "linkner-kind",\n  "a": 1\n}\nafter\n'
    assert set(done.stderr.split()) == {"ours", "engine", "child"}


@pytest.mark.parametrize("json_file", [None, "-"])
def test_quietly_nothing_is_said(capsys, json_file):
    with kept_output():
        set_output(quiet=True, json_file=json_file)
        sys.stdout.write("said\n")
        write_json(json_file, "kind", {})
    seen = capsys.readouterr()
    assert (seen.out == "") == (json_file is None)
    assert "said" not in seen.out + seen.err


@pytest.mark.parametrize("content", ["mine", "{}", '{"format": "other"}', "<html></html>"])
def test_a_file_that_others_wrote_is_kept(tmp_path, content):
    path = tmp_path / "a"
    path.write_text(content)
    with pytest.raises(ConfigError, match="no command of linkner wrote it; choose another name"):
        check_replaceable(str(path))
    assert main([*LISTED, "--json", str(path)]) == 2
    assert path.read_text() == content


def test_a_file_of_ours_is_replaced(tmp_path):
    page, numbers = tmp_path / "a.html", str(tmp_path / "a.json")
    page.write_text(render_page("# Title", title="T"))
    write_json(numbers, "kind", {"first": 1})
    (tmp_path / "empty").touch()
    check_replaceable(str(page), numbers, str(tmp_path / "empty"), "/dev/null", None)
    assert main([*LISTED, "--json", numbers]) == 0
    assert "first" not in json.loads((tmp_path / "a.json").read_text())


def test_ctrl_c_at_any_time_ends_a_command_with_130_and_a_sentence(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("linkner_ray.labels.shipped_label_sets", interrupted)
    assert main(LISTED) == 130
    said = capsys.readouterr().err
    assert said == "linkner: stopped by Ctrl-C: the same command begins anew\n"
