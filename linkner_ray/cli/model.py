"""Commands about a model: train it, calibrate it, score it, compare two scores."""

import dataclasses
import json
from typing import Annotated

import typer

from linkner_ray.cli.options import (
    Checkpoint,
    ConfigFile,
    DryRun,
    JsonFile,
    Overrides,
    Quiet,
    print_yaml,
)
from linkner_ray.cli.output import check_writable, set_output, write_json
from linkner_ray.errors import ErrorLimitError, hide_secrets
from linkner_ray.logs import set_up_logs


def train(
    overrides: Overrides = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Fine-tune SpanNER on a labelled corpus with Ray Train.

    Example: linkner train --config jobs/configs/train_conll03.yaml training.epochs=3
    """
    set_output(quiet=quiet, json_file=json_file)
    from linkner_ray.config import LoggingConfig, TrainConfig
    from linkner_ray.config.loading import load_config

    resolved = load_config(TrainConfig, config, overrides or [])
    set_up_logs(LoggingConfig())
    from linkner_ray.training.plan import plan_training

    plan = plan_training(resolved)
    if dry_run:
        print_yaml(plan.config.shown())
        return
    from linkner_ray.runs.shutdown import exit_on_signal
    from linkner_ray.training.job import train as run_training

    kept = f"epochs that ended are kept in {hide_secrets(resolved.output.storage)}"
    with exit_on_signal(lambda: f"{kept}; the same command goes on from there"):
        result = run_training(plan)
    print(result.summary())
    write_json(json_file, "training", dataclasses.asdict(result))


def calibrate(
    checkpoint: Checkpoint,
    dev: Annotated[str, typer.Argument(metavar="DEV", help="Labelled set in its labels.")],
    train_set: Annotated[
        str | None,
        typer.Option(
            "--train", help="What it was trained on; for a checkpoint that does not know."
        ),
    ] = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Let a labelled set decide anew on temperature, recalibration and near misses of a checkpoint.

    Training does this on its own dev set. The checkpoint is replaced; its weights stay. Beside
    these it keeps thresholds that `routing.threshold_for` names: for a share asked and for an error
    left.

    Example: linkner calibrate checkpoints/conll03 my-domain/dev.conll
    """
    set_output(quiet=quiet, json_file=json_file)
    from linkner_ray.training.calibrate import calibrate_checkpoint

    found = calibrate_checkpoint(checkpoint, dev, train=train_set)
    print(found.describe())
    write_json(json_file, "calibration", dataclasses.asdict(found))


def link(  # noqa: PLR0913, PLR0917 - each is an option of the command
    checkpoint: Checkpoint,
    dev: Annotated[
        str, typer.Argument(metavar="DEV", help="Labelled set, PATH[:FORMAT[:LABEL_MAP]].")
    ],
    overrides: Overrides = None,
    config: ConfigFile = None,
    output: Annotated[str, typer.Option(help="File of the link.")] = "link.json",
    dry_run: DryRun = False,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Measure on a labelled set how far an LLM is to be believed, and what is worth asking it.

    First it compares ways of asking on a part of the set: forms of answers, and demonstrations if
    llm.demonstrations.corpus names a labelled corpus. What the config sets is not compared. A run
    with routing.link asks in the best way, in the order of what an answer is expected to gain,
    weighs answers as measured here, and leaves alone an LLM that gains nothing.

    Example: linkner link checkpoints/conll03 dev.conll llm.model=Qwen/Qwen3-8B
    llm.demonstrations.corpus=train.conll --output link.json
    """
    set_output(quiet=quiet, json_file=json_file)
    check_writable(output if "://" not in output else None)
    from linkner_ray.config import LinkConfig, LoggingConfig
    from linkner_ray.config.loading import load_config

    given = [f"dev=dev={dev}", f"recognize.checkpoint={json.dumps(checkpoint)}"]
    given.append(f"output={json.dumps(output)}")
    resolved = load_config(LinkConfig, config, [*given, *(overrides or [])])
    set_up_logs(LoggingConfig())
    from linkner_ray.evaluation.measure_link import describe_link, measure_link, plan_link

    plan = plan_link(resolved)
    if dry_run:
        print_yaml(plan.config.shown())
        return
    from linkner_ray.linking.summary import summary_of
    from linkner_ray.runs.shutdown import exit_on_signal
    from linkner_ray.stages.link_source import asked_way

    with exit_on_signal(lambda: _how_to_go_on(plan.config.cache.path)):
        found = measure_link(plan, say=print)
    print(describe_link(found))
    print(f"\nwritten to {output}; use it with routing.link={output}")
    told = {
        "num_answers": found.link.num_answers,
        **summary_of(found.link),
        "by_share": found.link.by_share,
        "asked": asked_way(found.llm),
        "compared": [trial.to_json() for trial in found.trials],
    }
    write_json(json_file, "link", {"output": hide_secrets(output), **told})


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
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Score a checkpoint, alone and with an LLM, on labelled sets.

    Example: linkner evaluate --config jobs/configs/evaluate_conll03.yaml llm.backend=none

    Example: linkner evaluate --checkpoint checkpoints/conll03 --set test=test.conll
    --set wnut=wnut17.conll:conll:wnut17_to_conll03 --output scores
    """
    set_output(quiet=quiet, json_file=json_file)
    from linkner_ray.config import EvaluateConfig, LoggingConfig
    from linkner_ray.config.loading import load_config

    # Without a config there is no LLM until an override names one.
    options = [] if config else ["llm.backend=none"]
    options += [f"recognize.checkpoint={json.dumps(checkpoint)}"] if checkpoint else []
    options += [f"sets={json.dumps(sets)}"] if sets else []
    options += [f"output.path={json.dumps(output)}"] if output else []
    resolved = load_config(EvaluateConfig, config, [*options, *(overrides or [])])
    set_up_logs(LoggingConfig())
    from linkner_ray.evaluation.plan import plan_evaluation

    plan = plan_evaluation(resolved)
    if dry_run:
        print_yaml(plan.config.shown())
        return
    from linkner_ray.evaluation.comparison import read_metrics
    from linkner_ray.evaluation.job import evaluate as run_evaluation
    from linkner_ray.evaluation.report import summary_table
    from linkner_ray.extract.ray_start import start_ray
    from linkner_ray.runs.shutdown import exit_on_signal

    start_ray()
    with exit_on_signal(lambda: _how_to_go_on(plan.config.cache.path)):
        evaluation = run_evaluation(plan)
    print(summary_table(evaluation.results))
    print(f"\nwritten to {resolved.output.path}")
    write_json(json_file, "evaluation", read_metrics(resolved.output.path))
    if evaluation.problems:
        raise ErrorLimitError("\n".join(evaluation.problems))


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Folder of an evaluation.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Folder of another.")],
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Say by how much evaluation B is better than A on the sets of both, with intervals.

    Example: linkner compare scores/monday scores/tuesday --json difference.json
    """
    set_output(quiet=quiet, json_file=json_file)
    from linkner_ray.evaluation.as_json import as_json
    from linkner_ray.evaluation.comparison import compare_evaluations, describe_comparison

    found = compare_evaluations(first, second)
    print(describe_comparison(found))
    tree = {field.name: as_json(getattr(found, field.name)) for field in dataclasses.fields(found)}
    write_json(json_file, "comparison", tree)


def _how_to_go_on(cache: str | None) -> str:
    """What is kept of the answers of an LLM, for whoever stopped a command that asks it."""
    if cache:
        return f"answers so far are kept in {hide_secrets(cache)}; the same command asks the rest"
    return "the same command begins anew; with cache.path=FOLDER answers would have been kept"
