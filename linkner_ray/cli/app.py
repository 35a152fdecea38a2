"""The command `linkner`: the same code as the jobs."""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import linkner_ray
from linkner_ray.cli import cache, failures, labels, look, model, run
from linkner_ray.cli.output import kept_output
from linkner_ray.errors import ConfigError, LinknerError, refuse_bare_string
from linkner_ray.logs import log_to_console, progress, say_last

CTRL_C = 130
"""Exit code, by which typer says that it met a KeyboardInterrupt."""

MODEL, RUN, LOOK, KEEP = "Model", "Run", "Look", "Keep"
"""Panels of `linkner --help`."""

app = typer.Typer(
    help="Named-entity recognition over web crawls: SpanNER on Ray, uncertain spans to an LLM.\n\n"
    "With --json FILE a command also writes its result as one JSON object; with --json - standard "
    "output has that and nothing else. With --quiet only errors and warnings are printed. Ctrl-C "
    "ends a command, which says how to go on; a second one does not wait for that.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)

for panel, commands in (
    (MODEL, (model.train, model.calibrate, model.link, model.evaluate, model.compare)),
    (RUN, (run.estimate, run.extract, run.nightly)),
    (LOOK, (look.preview, look.predict, look.show, look.diff, look.export, look.demo)),
    (KEEP, (look.verify,)),
):
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(labels.app, name="labels", rich_help_panel=MODEL)
app.add_typer(failures.app, name="failures", rich_help_panel=RUN)
app.add_typer(cache.app, name="cache", rich_help_panel=KEEP)


def _print_version(*, asked: bool) -> None:
    if asked:
        print(f"linkner {linkner_ray.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Options of `linkner` itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error of ours becomes one message and its exit code.

    Returns:
        0 done; 2 wrong config or input; 3 finished over an error limit; 4 a model or engine did
        not start; 130 stopped by Ctrl-C; 143 stopped by SIGTERM; 1 anything else.
    """
    refuse_bare_string("arguments", arguments)
    log_to_console()
    _give_home()
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _refuse_old_names(words)
        with kept_output(), progress.shown():
            app(args=words)
    except LinknerError as error:
        say_last(str(error), exit_code=error.exit_code)
        return error.exit_code
    except SystemExit as stop:  # how typer ends a command and a wrong flag
        if isinstance(stop.code, str):  # how other code ends a process with a message: exit code 1
            raise
        if stop.code == CTRL_C:
            say_last("stopped by Ctrl-C: the same command begins anew", exit_code=CTRL_C)
        return stop.code or 0
    return 0


def _give_home() -> None:
    """Let `~` mean something to Ray Train and vLLM under a user id without name and home."""
    if "HOME" not in os.environ:
        try:
            Path.home()
        except RuntimeError:
            os.environ["HOME"] = tempfile.gettempdir()


_NO_PROMISE = 'was removed; thresholds of dev are routing.threshold_for = "asked=5%" or "risk=2%"'
_ON_SIZING = "was removed; the page Sizing of the documentation says how many of each a run needs"

OLD_COMMANDS = {
    "ledger": "is called `linkner cache` now",
    "plan": "is called `linkner estimate` now",
    "predict --doubted": "is called `linkner predict --near-misses` now",
    "calibrate --alpha": _NO_PROMISE,
    "calibrate --delta": _NO_PROMISE,
    "calibrate --uncertainty": _NO_PROMISE,
    "estimate --cluster": _ON_SIZING,
    "estimate --documents-per-s": _ON_SIZING,
}
"""`command` or `command --option` of earlier releases, with what became of it."""


def _refuse_old_names(words: Sequence[str]) -> None:
    command, *others = words or [""]
    for old in (command, *(f"{command} {word.partition('=')[0]}" for word in others)):
        if old in OLD_COMMANDS:
            raise ConfigError(f"linkner {old}: {OLD_COMMANDS[old]}")
