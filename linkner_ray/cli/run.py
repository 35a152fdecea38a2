"""Commands that run: estimate what it takes, extract, extract a night."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from linkner_ray.cli.options import ConfigFile, DryRun, JsonFile, Overrides, Quiet
from linkner_ray.cli.output import set_output, write_json
from linkner_ray.errors import ConfigError, DriftError, ErrorLimitError, hide_secrets
from linkner_ray.logs import set_up_logs

if TYPE_CHECKING:  # imported where a command needs it: `linkner --help` shows this module, too
    from linkner_ray.config import NightlyConfig
    from linkner_ray.extract.plan import Plan
    from linkner_ray.extract.result import ExtractionResult
    from linkner_ray.nightly.publication import NightResult
    from linkner_ray.runs.previous import PreviousRun


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
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Extract entities from shards of documents into Parquet.

    Example: linkner extract --config jobs/configs/extract.yaml input.paths=[crawl/] output.path=out
    """
    set_output(quiet=quiet, json_file=json_file)
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
    from linkner_ray.extract.report import describe_plan

    plan = plan_extraction(resolved)
    if dry_run:
        print(describe_plan(plan))
    else:
        from linkner_ray.extract.result import find_finished

        finished = find_finished(plan, with_units=explain)
        if finished is not None:
            _tell(plan, finished, explain=explain, json_file=json_file)
            return
    previous = None
    if incremental is not None:
        from linkner_ray.extract.reuse_report import describe_previous
        from linkner_ray.runs.previous import open_previous

        previous = open_previous(
            incremental, plan.fingerprint, output=resolved.output.path, trust_code=trust_code
        )
        print(describe_previous(previous))
    if not dry_run:
        _tell(plan, _extract(plan, previous), explain=explain, json_file=json_file)


def _extract(plan: "Plan", previous: "PreviousRun | None") -> "ExtractionResult":
    """Run a plan."""
    from linkner_ray.extract.job import extract as run_extraction
    from linkner_ray.extract.progress_views import progress_view
    from linkner_ray.extract.ray_start import start_ray
    from linkner_ray.runs.shutdown import exit_on_signal

    start_ray()
    with exit_on_signal() as shutdown, progress_view(print) as view:
        return run_extraction(plan, previous=previous, view=view, shutdown=shutdown)


def _tell(
    plan: "Plan", result: "ExtractionResult", *, explain: bool, json_file: str | None
) -> None:
    """Report the result of a run."""
    from linkner_ray.extract.report import summarise, write_run_report
    from linkner_ray.extract.reuse_report import explain_shards

    if result.has_finished:
        write_run_report(plan, result)
    if explain:
        print(explain_shards(result, [source.shown for source in plan.sources]))
    print(summarise(plan, result))
    tree = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    del tree["unit_results"]
    write_json(json_file, "run", {"output": hide_secrets(plan.config.output.path), **tree})
    if result.problems:
        raise ErrorLimitError("\n".join(result.problems))


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
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Say what a run would find, ask and take, from a sample of its input and without Ray.

    A row for each of several thresholds; with routing.link for each of several values of
    routing.min_gain, with the F1 that the link expects on dev.

    Example: linkner estimate --config jobs/configs/extract.yaml input.paths=[crawl/]
    --documents 500
    """
    set_output(quiet=quiet, json_file=json_file)
    from linkner_ray.config import ExtractConfig
    from linkner_ray.config.loading import load_config
    from linkner_ray.extract.plan import plan_extraction

    resolved = load_config(ExtractConfig, config, overrides or [])
    if measure_llm and resolved.llm.backend == "none":
        raise ConfigError(
            "--measure-llm starts the LLM of the config, and llm.backend = none; name one, or "
            "leave --measure-llm out"
        )
    if measure_llm and requests_per_s is not None:
        raise ConfigError("--measure-llm measures what --requests-per-s says; give one of them")
    if threshold and resolved.routing.link is not None and resolved.llm.backend != "none":
        raise ConfigError(
            "--threshold compares thresholds, and a run with routing.link goes by "
            "routing.min_gain; leave --threshold out"
        )
    plan = plan_extraction(resolved)
    from linkner_ray.nightly.estimate import SampleSettings, estimate_run, known_answers
    from linkner_ray.nightly.estimate_report import describe_estimate

    settings = SampleSettings(
        documents=documents, requests_per_s=requests_per_s, measure_llm=measure_llm
    )
    if threshold:
        settings = dataclasses.replace(settings, thresholds=tuple(threshold))
    is_known = known_answers(plan.config, plan.label_set)
    from linkner_ray.runs.shutdown import exit_on_signal

    with exit_on_signal():
        estimate = estimate_run(plan, settings, is_known=is_known)
    print(describe_estimate(estimate, plan.config))
    write_json(json_file, "estimate", dataclasses.asdict(estimate))


def nightly(
    overrides: Overrides = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Extract a night on top of the last one, and publish it if it is sound.

    Runs the self-check, estimates, extracts, verifies, compares with the night that `latest` in
    output.path names, and moves `latest`. A night whose drift is an alert is kept but not
    published (exit code 3). The same command goes on where it stopped.

    Example: linkner nightly --config jobs/configs/nightly.yaml night.name=2026-11-23
    """
    set_output(quiet=quiet, json_file=json_file)
    from linkner_ray.config import NightlyConfig
    from linkner_ray.config.loading import load_config

    resolved = load_config(NightlyConfig, config, overrides or [])
    set_up_logs(resolved.logging)
    from linkner_ray.extract.plan import plan_extraction

    plan = plan_extraction(resolved.extraction())
    if dry_run:
        from linkner_ray.extract.report import describe_plan
        from linkner_ray.nightly.night import describe_start

        print(describe_plan(plan))
        print(describe_start(resolved, plan))
        return
    from linkner_ray.nightly.publication import find_published

    result = find_published(resolved, plan) or _run_night(resolved, plan)
    name, output = result.record["night"], hide_secrets(result.output)
    write_json(json_file, "night", {**dataclasses.asdict(result), "output": output})
    if result.did_nothing:
        print(f"nothing to do: night {name} has ended, see {output}/night.md")
        return
    print(f"night {name}: {output}/night.md")
    if result.problems:
        raise ErrorLimitError("\n".join([*result.problems, "latest stays where it was"]))
    if result.alerts:
        raise DriftError(
            f"{'; '.join(result.alerts)}; latest stays where it was. See {result.output}/night.md; "
            "if the night is right, the same command with night.accept_drift=true publishes it"
        )
    print(f"latest names {name}" if result.has_moved else "latest stays: it names a later night")


def _run_night(config: "NightlyConfig", plan: "Plan") -> "NightResult":
    from linkner_ray.extract.progress_views import progress_view
    from linkner_ray.nightly.night import run_night
    from linkner_ray.runs.shutdown import exit_on_signal

    with exit_on_signal() as shutdown, progress_view(print) as view:
        return run_night(config, plan=plan, view=view, shutdown=shutdown)
