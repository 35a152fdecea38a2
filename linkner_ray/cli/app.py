"""The command `linkner`: the same code as the jobs."""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from linkner_ray.cli import cache, failures, labels, look, model, run
from linkner_ray.errors import ConfigError, LinknerError
from linkner_ray.logs import log_to_console, say_last

MODEL, RUN, LOOK, KEEP = "Model", "Run", "Look", "Keep"
"""Panels of `linkner --help`."""

app = typer.Typer(
    help="Named-entity recognition over web crawls: SpanNER on Ray, uncertain spans to an LLM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)

for panel, commands in (
    (MODEL, (model.train, model.calibrate, model.link, model.evaluate, model.compare)),
    (RUN, (run.estimate, run.extract, run.nightly)),
    (LOOK, (look.preview, look.predict, look.show, look.diff)),
    (KEEP, (look.verify,)),
):
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(labels.app, name="labels", rich_help_panel=MODEL)
app.add_typer(failures.app, name="failures", rich_help_panel=RUN)
app.add_typer(cache.app, name="cache", rich_help_panel=KEEP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error of ours becomes one message and its exit code.

    Returns:
        0 done; 2 wrong config or input; 3 finished over an error limit; 4 a model or engine did
        not start; 143 stopped by SIGTERM; 1 anything else.
    """
    log_to_console()
    _give_home()
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _refuse_old_names(words)
        app(args=words)
    except LinknerError as error:
        say_last(str(error), exit_code=error.exit_code)
        return error.exit_code
    except SystemExit as stop:  # how typer ends a command and a wrong flag
        if isinstance(stop.code, str):  # how other code ends a process with a message: exit code 1
            raise
        return stop.code or 0
    return 0


def _give_home() -> None:
    """Let `~` mean something to Ray Train and vLLM under a user id without name and home."""
    if "HOME" not in os.environ:
        try:
            Path.home()
        except RuntimeError:
            os.environ["HOME"] = tempfile.gettempdir()


_WITH_OLD_NAMES = ("calibrate", "demo", "estimate", "ledger", "plan", "predict")
"""First words of the old commands and options in `config/old_names.py`."""


def _refuse_old_names(words: Sequence[str]) -> None:
    if not words or words[0] not in _WITH_OLD_NAMES:  # nothing is imported to look up a right one
        return
    from linkner_ray.config.old_names import old_word

    renamed = old_word(words)
    if renamed is not None:
        raise ConfigError(renamed)
