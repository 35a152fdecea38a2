"""The command `linkner`: the same code as the jobs."""

import dataclasses
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import yaml

from linkner_ray.cli import cache, compare, failures, labels, nightly, preview, verify
from linkner_ray.cli.files import check_writable, write_json, write_text
from linkner_ray.errors import ConfigError, ErrorLimitError, LinknerError
from linkner_ray.logs import TEXT_FORMAT, say_last, set_up_logs

MODEL, RUN, LOOK, KEEP = "Model", "Run", "Look", "Keep"
"""Panels of `linkner --help`."""

app = typer.Typer(
    help="Named-entity recognition over web crawls: SpanNER on Ray, uncertain spans to an LLM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)

app.add_typer(failures.app, name="failures", rich_help_panel=RUN)
app.add_typer(labels.app, name="labels", rich_help_panel=MODEL)
app.add_typer(cache.app, name="cache", rich_help_panel=KEEP)
app.command(rich_help_panel=MODEL)(compare.compare)
app.command(rich_help_panel=RUN)(nightly.nightly)
app.command(rich_help_panel=LOOK)(preview.preview)
app.command(rich_help_panel=KEEP)(verify.verify)

ConfigFile = Annotated[
    str | None, typer.Option("--config", help="YAML file; see jobs/configs for examples.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the resolved config and what would be done.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Dotted overrides, such as routing.threshold=0.3")
]


@app.command(rich_help_panel=MODEL)
def train(overrides: Overrides = None, config: ConfigFile = None, dry_run: DryRun = False) -> None:
    """Fine-tune SpanNER on a labelled corpus with Ray Train.

    Example: linkner train --config jobs/configs/train_conll03.yaml training.epochs=3
    """
    from linkner_ray.config import LoggingConfig, TrainConfig
    from linkner_ray.config.loading import load_config

    resolved = load_config(TrainConfig, config, overrides or [])
    set_up_logs(LoggingConfig())
    from linkner_ray.training.plan import plan_training

    plan = plan_training(resolved)
    if dry_run:
        _print_yaml(plan.config.model_dump(mode="json"))
        return
    from linkner_ray.training.job import train as run_training

    print(run_training(plan).summary())


@app.command(rich_help_panel=MODEL)
def calibrate(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Folder that training wrote.")
    ],
    dev: Annotated[str, typer.Argument(metavar="DEV", help="Labelled set in its labels.")],
    train_set: Annotated[
        str | None,
        typer.Option(
            "--train", help="What it was trained on; for a checkpoint that does not know."
        ),
    ] = None,
) -> None:
    """Let a labelled set decide anew on temperature, recalibration and near misses of a checkpoint.

    Training does this on its own dev set. The checkpoint is replaced; its weights stay. Beside
    these it keeps thresholds that `routing.threshold_for` names: for a share asked and for an error
    left.

    Example: linkner calibrate checkpoints/conll03 my-domain/dev.conll
    """
    from linkner_ray.training.calibrate import calibrate_checkpoint

    found = calibrate_checkpoint(checkpoint, dev, train=train_set)
    _print_yaml(
        {
            "f1": found.counts.f1,
            **dataclasses.asdict(found.calibration),
            "thresholds": dataclasses.asdict(found.thresholds),
        }
    )


@app.command(rich_help_panel=RUN)
def extract(  # noqa: PLR0913, PLR0917 - each is an option of the command
    overrides: Overrides = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    incremental: Annotated[
        str | None,
        typer.Option(
            metavar="PREVIOUS",
            help="Finished run with candidates/; what it knows of a text is reused.",
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what was reused, and why the rest was not.")
    ] = False,
    trust_code: Annotated[
        bool,
        typer.Option(
            "--trust-code", help="With --incremental: reuse what other code or libraries found."
        ),
    ] = False,
) -> None:
    """Extract entities from shards of documents into Parquet.

    Example: linkner extract --config jobs/configs/extract.yaml input.paths=[crawl/] output.path=out
    """
    if incremental is None and (explain or trust_code):
        raise ConfigError(
            f"{'--explain' if explain else '--trust-code'} is about what --incremental PREVIOUS "
            "reuses; give both"
        )
    from linkner_ray.config import ExtractConfig
    from linkner_ray.config.loading import load_config

    resolved = load_config(ExtractConfig, config, overrides or [])
    set_up_logs(resolved.logging)
    from linkner_ray.extract.plan import plan_extraction
    from linkner_ray.extract.report import describe_plan, summarise, write_run_report

    plan = plan_extraction(resolved)
    if dry_run:
        print(describe_plan(plan))
    previous = None
    if incremental is not None:
        from linkner_ray.extract.reuse_report import describe_previous
        from linkner_ray.runs.previous import open_previous

        previous = open_previous(
            incremental, plan.fingerprint, output=resolved.output.path, trust_code=trust_code
        )
        print(describe_previous(previous))
    if dry_run:
        return
    from linkner_ray.extract.job import extract as run_extraction
    from linkner_ray.extract.progress_views import progress_view
    from linkner_ray.extract.ray_start import start_ray
    from linkner_ray.runs.shutdown import exit_on_sigterm

    start_ray()
    with exit_on_sigterm() as shutdown, progress_view(print) as view:
        result = run_extraction(
            plan, previous=previous, progress=view.say, show=view, shutdown=shutdown
        )
    if result.has_finished:
        write_run_report(plan, result)
    if explain:
        from linkner_ray.extract.reuse_report import explain_shards

        print(explain_shards(result, [source.path for source in plan.sources]))
    print(summarise(plan, result))
    if result.problems:
        raise ErrorLimitError("\n".join(result.problems))


@app.command(rich_help_panel=RUN)
def estimate(  # noqa: PLR0913, PLR0917 - each is an option of the command
    overrides: Overrides = None,
    config: ConfigFile = None,
    documents: Annotated[int, typer.Option(min=1, help="Documents to look at.")] = 200,
    threshold: Annotated[
        list[float] | None, typer.Option(min=0, max=1, help="Threshold to compare; repeatable.")
    ] = None,
    requests_per_s: Annotated[
        float | None, typer.Option(min=1e-6, help="What one engine answers in a second.")
    ] = None,
    measure_llm: Annotated[
        bool, typer.Option("--measure-llm", help="Start the LLM and measure that.")
    ] = False,
    json_file: Annotated[str | None, typer.Option("--json", help="File for the numbers.")] = None,
) -> None:
    """Say what a run would find, ask and take, from a sample of its input and without Ray.

    Example: linkner estimate --config jobs/configs/extract.yaml input.paths=[crawl/]
    --documents 500
    """
    check_writable(json_file)
    from linkner_ray.config import ExtractConfig
    from linkner_ray.config.loading import load_config
    from linkner_ray.extract.plan import plan_extraction

    plan = plan_extraction(load_config(ExtractConfig, config, overrides or []))
    from linkner_ray.nightly.estimate import SampleSettings, estimate_run, known_answers
    from linkner_ray.nightly.estimate_report import describe_estimate

    settings = SampleSettings(
        documents=documents, requests_per_s=requests_per_s, measure_llm=measure_llm
    )
    if threshold:
        settings = dataclasses.replace(settings, thresholds=tuple(threshold))
    is_known = known_answers(plan.config, plan.label_set)
    estimate = estimate_run(plan, settings, is_known=is_known)
    print(describe_estimate(estimate, plan.config))
    write_json(json_file, dataclasses.asdict(estimate))


@app.command(rich_help_panel=MODEL)
def evaluate(  # noqa: PLR0913, PLR0917 - each is an option of the command
    overrides: Overrides = None,
    config: ConfigFile = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Folder that training wrote; recognize.checkpoint.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=PATH[:FORMAT[:LABEL_MAP]]",
            help="Labelled set; repeatable. The first counts as like training.",
        ),
    ] = None,
    output: Annotated[str | None, typer.Option(help="Folder for the report.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Score a checkpoint, alone and with an LLM, on labelled sets.

    Example: linkner evaluate --config jobs/configs/evaluate_conll03.yaml llm.backend=none

    Example: linkner evaluate --checkpoint checkpoints/conll03 --set test=test.conll
    --set wnut=wnut17.conll:conll:wnut17_to_conll03 --output scores
    """
    from linkner_ray.config import EvaluateConfig, LoggingConfig
    from linkner_ray.config.loading import load_config

    # Without a config there is nobody to ask until an override says who.
    options = [] if config else ["llm.backend=none"]
    options += [f"recognize.checkpoint={json.dumps(checkpoint)}"] if checkpoint else []
    options += [f"sets={json.dumps(sets)}"] if sets else []
    options += [f"output.path={json.dumps(output)}"] if output else []
    resolved = load_config(EvaluateConfig, config, [*options, *(overrides or [])])
    set_up_logs(LoggingConfig())
    from linkner_ray.evaluation.plan import plan_evaluation

    plan = plan_evaluation(resolved)
    if dry_run:
        _print_yaml(plan.config.model_dump(mode="json"))
        return
    from linkner_ray.evaluation.job import evaluate as run_evaluation
    from linkner_ray.evaluation.report import summary_table
    from linkner_ray.extract.ray_start import start_ray

    start_ray()
    evaluation = run_evaluation(plan)
    print(summary_table(evaluation.results))
    print(f"\nwritten to {resolved.output.path}")
    if evaluation.problems:
        raise ErrorLimitError("\n".join(evaluation.problems))


@app.command(rich_help_panel=LOOK)
def predict(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Folder that training wrote.")
    ],
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="Texts; - reads one from standard input.")
    ],
    near_misses: Annotated[
        bool, typer.Option("--near-misses", help="List near misses too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a text.")] = False,
) -> None:
    """Find the entities of a few texts with a checkpoint, without Ray and without an LLM.

    Example: linkner predict checkpoints/conll03 "Angela Merkel visited Paris." --near-misses
    """
    from linkner_ray.spanner.checkpoint import local_checkpoint

    local_checkpoint(checkpoint)  # a wrong path is told before torch is imported
    from linkner_ray.api import LinkNER
    from linkner_ray.cli.predict_text import predict_text, render, to_json, without_pandas

    linkner = LinkNER.from_pretrained(checkpoint)
    colored = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    with without_pandas():
        for index, text in enumerate(texts):
            raw = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
            prediction = predict_text(linkner, raw.decode("utf-8", errors="replace"))
            if as_json:
                print(to_json(prediction, near_misses=near_misses))
                continue
            if index:
                print()
            print(
                render(prediction, linkner.label_set.ids, near_misses=near_misses, colored=colored)
            )


@app.command(rich_help_panel=LOOK)
def show(
    output: Annotated[str, typer.Argument(help="Folder of a run.")],
    doc: Annotated[str, typer.Option("--doc", help="Document id.")],
) -> None:
    """Show a document of a run: its entities, and what the LLM was asked and said.

    Example: linkner show demo-output --doc page-00017
    """
    from linkner_ray.extract.show import show_document

    print(show_document(output, doc))


@app.command(rich_help_panel=LOOK)
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="Folder of the earlier run.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Folder of the later run.")],
    html: Annotated[str | None, typer.Option(help="File for a page with 50 examples.")] = None,
    json_file: Annotated[str | None, typer.Option("--json", help="File for the numbers.")] = None,
) -> None:
    """Say which entities two runs do not have alike, by label and source.

    It counts apart those whose text changed, and lists the steps that the runs decide differently.

    Example: linkner diff nights/monday nights/tuesday --html diff.html
    """
    check_writable(html, json_file)
    from linkner_ray.nightly.diff import compare_runs
    from linkner_ray.nightly.diff_page import describe_diff, render_diff

    found = compare_runs(before, after)
    print(describe_diff(found))
    write_text(html, render_diff(found) if html else "")
    write_json(json_file, found.as_json())


@app.command(rich_help_panel=RUN)
def demo() -> None:
    """Say where the demo is: in the repository, not in the package.

    Example: linkner demo
    """
    print("The demo is a part of the repository: clone it and type `make demo` there.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error of ours becomes one message and its exit code.

    Returns:
        0 done; 2 wrong config or input; 3 finished over an error limit; 4 a model or engine did
        not start; 143 stopped by SIGTERM; 1 anything else.
    """
    logging.basicConfig(level=logging.WARNING, format=TEXT_FORMAT)
    _give_home()
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _refuse_old_names(words)
        app(args=words)
    except LinknerError as error:
        say_last(str(error), exit_code=error.exit_code)
        return error.exit_code
    except SystemExit as stop:  # how typer ends a command and a wrong flag
        return stop.code if isinstance(stop.code, int) else 0
    return 0


def _give_home() -> None:
    """Let `~` mean something to Ray Train and vLLM under a user id without name and home."""
    if "HOME" not in os.environ:
        try:
            Path.home()
        except RuntimeError:
            os.environ["HOME"] = tempfile.gettempdir()


_WITH_OLD_NAMES = ("calibrate", "estimate", "ledger", "plan", "predict")
"""First words of the old commands and options in `config/old_names.py`."""


def _refuse_old_names(words: Sequence[str]) -> None:
    if not words or words[0] not in _WITH_OLD_NAMES:  # nothing is imported to look up a right one
        return
    from linkner_ray.config.old_names import old_word

    renamed = old_word(words)
    if renamed is not None:
        raise ConfigError(renamed)


def _print_yaml(tree: object) -> None:
    print(yaml.safe_dump(json.loads(json.dumps(tree)), sort_keys=False))
