"""Every command shows an example that could be typed, and the shell completes them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from linkner_ray.cli.app import OLD_COMMANDS, app, main
from linkner_ray.config import (
    EvaluateConfig,
    ExtractConfig,
    LinkConfig,
    NightlyConfig,
    TrainConfig,
)
from linkner_ray.config.validation import known_keys

ROOT = Path(__file__).parent.parent.parent

CONFIGS = {
    "train": TrainConfig,
    "extract": ExtractConfig,
    "estimate": ExtractConfig,
    "preview": ExtractConfig,
    "evaluate": EvaluateConfig,
    "link": LinkConfig,
    "nightly": NightlyConfig,
}
"""Of the commands that take overrides."""


def commands():
    """Every command with its words after `linkner`."""
    found = {}
    waiting = [((), get_command(app))]
    while waiting:
        words, command = waiting.pop()
        if hasattr(command, "commands"):
            waiting += [((*words, name), inner) for name, inner in command.commands.items()]
        else:
            found[" ".join(words)] = command
    return found


COMMANDS = commands()


def examples_of(command):
    """Words of each example in a command's help; an example ends with its paragraph."""
    pattern = r"^ *Example: (.*?)(?=\n\s*\n|\Z)"
    found = re.findall(pattern, command.help or "", flags=re.MULTILINE | re.DOTALL)
    assert found, "a command has a paragraph `Example: linkner ...`"
    return [shlex.split(words) for words in found]


def test_all_commands_are_found():
    assert {"extract", "nightly", "preview", "failures list", "cache prune"} <= set(COMMANDS)
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_shows_an_example_whose_words_the_command_takes(name, capsys):
    command = COMMANDS[name]
    assert main([*name.split(), "--help"]) == 0
    assert "Example: linkner " + name in " ".join(capsys.readouterr().out.split())
    for words in examples_of(command):
        assert words[: 1 + len(name.split())] == ["linkner", *name.split()]
        # The parser refuses what is no option, lacks a value or an argument, or has one too many.
        given = command.make_context(name, words[1 + len(name.split()) :]).params
        if given.get("config"):
            assert (ROOT / given["config"]).is_file()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_keys_in_an_example_exist(name):
    command = COMMANDS[name]
    takes_overrides = any(parameter.name == "overrides" for parameter in command.params)
    assert takes_overrides == (name in CONFIGS)
    if takes_overrides:
        known = set(known_keys(CONFIGS[name]))
        for words in examples_of(command):
            given = command.make_context(name, words[1 + len(name.split()) :]).params
            keys = [word.partition("=")[0] for word in given["overrides"] or ()]
            assert keys or "--config" in words or "--checkpoint" in words
            assert set(keys) <= known


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_json_and_quiet_mean_the_same_everywhere(name):
    found = {option: p for p in COMMANDS[name].params for option in p.opts}
    no_json = {
        "preview",
        "show",
        "export",
        "demo",
        "failures requeue",
        "cache prune",
        "cache compact",
    }
    no_quiet = {
        "predict",
        "show",
        "demo",
        "labels check",
        "labels list",
        "failures list",
        "cache stats",
    }
    assert ("--json" in found) == (name not in no_json)
    assert ("--quiet" in found) == (name not in no_quiet)
    assert "--json" not in found or not found["--json"].is_flag


def in_a_shell(code, **environment):
    """Run the command as `linkner`; what it prints, and whether it loaded a model library."""
    script = (
        "import sys, atexit; sys.argv[0] = 'linkner'\n"
        "heavy = {'torch', 'transformers', 'ray', 'vllm'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        f"from linkner_ray.cli.app import main\n{code}"
    )
    # Without detection the shell is named, which is what a test can rely on.
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **named, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_completion_is_shown_without_loading_a_model_library():
    done = in_a_shell("sys.exit(main(['--show-completion', 'bash']))")
    assert done.returncode == 0
    assert "complete -o default -F _linkner_completion linkner" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("linkner ", {name.split(" ")[0] for name in COMMANDS}),
        ("linkner ni", {"nightly"}),
        ("linkner failures ", {"list", "requeue"}),
        ("linkner preview --pa", {"--pages"}),
    ],
)
def test_a_shell_completes_commands_and_options(typed, expected):
    count = len(typed.split(" ")) - 1
    done = in_a_shell(
        "sys.exit(main())",
        _LINKNER_COMPLETE="complete_bash",
        COMP_WORDS=typed,
        COMP_CWORD=str(count),
    )
    assert set(done.stdout.split()) == expected
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["extrct"], "Did you mean 'extract'"),
        (["failures", "lst"], "Did you mean 'list'?"),
        (["extract", "--confg", "x"], "--config"),
        (["compare", "a", "b", "--jsn", "x"], "--json"),
        (["extract", "routing.treshold=0.3"], "did you mean 'routing.threshold'?"),
    ],
)
def test_a_wrong_word_is_told_with_the_nearest(words, nearest, capsys):
    assert main(words) == 2
    assert nearest in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("old", "said"), OLD_COMMANDS.items())
def test_an_old_command_or_option_exits_2_and_says_what_there_is_now(old, said, capsys):
    command, _, option = old.partition(" ")
    assert command not in COMMANDS or option not in options_of(command)
    assert main([*old.split(), "more"]) == main(f"{old}=1".split() if option else [old]) == 2
    assert capsys.readouterr().err == f"linkner: linkner {old}: {said}\n" * 2
    if renamed := re.fullmatch("is called `linkner (.*)` now", said):
        command, _, option = renamed[1].partition(" ")
        assert option in options_of(command) if option else main([command, "--help"]) == 0


def options_of(command):
    return {word for parameter in COMMANDS[command].params for word in parameter.opts}
