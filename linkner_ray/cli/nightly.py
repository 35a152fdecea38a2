"""`linkner nightly`: a night from its self-check to `latest`."""

from typing import Annotated

import typer

from linkner_ray.errors import DriftError, ErrorLimitError
from linkner_ray.logs import set_up_logs


def nightly(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Dotted overrides, such as night.name=2026-11-23")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", help="YAML file; see jobs/configs/nightly.yaml.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and what the night would build on.")
    ] = False,
) -> None:
    """Extract a night on top of the last one, and publish it if it is sound.

    Runs the self-check, estimates, extracts, verifies, compares with the night that `latest` in
    output.path names, and moves `latest`. A night whose drift is an alert is kept but not
    published (exit code 3). The same command goes on where it stopped.

    Example: linkner nightly --config jobs/configs/nightly.yaml night.name=2026-11-23
    """
    from linkner_ray.config import NightlyConfig
    from linkner_ray.config.loading import load_config

    resolved = load_config(NightlyConfig, config, overrides or [])
    set_up_logs(resolved.logging)
    from linkner_ray.extract.plan import plan_extraction

    plan = plan_extraction(resolved.extraction())
    from linkner_ray.nightly.night import describe_start, run_night

    if dry_run:
        from linkner_ray.extract.report import describe_plan

        typer.echo(describe_plan(plan))
        typer.echo(describe_start(resolved))
        return
    from linkner_ray.extract.progress_views import progress_view
    from linkner_ray.runs.shutdown import exit_on_sigterm

    with exit_on_sigterm() as shutdown, progress_view(typer.echo) as view:
        result = run_night(resolved, plan=plan, say=view.say, show=view, shutdown=shutdown)
    name = result.record["night"]
    if result.did_nothing:
        typer.echo(f"nothing to do: night {name} has ended, see {result.output}/night.md")
        return
    typer.echo(f"night {name}: {result.output}/night.md")
    if result.problems:
        raise ErrorLimitError("\n".join([*result.problems, "latest stays where it was"]))
    if result.alerts:
        raise DriftError(
            f"{'; '.join(result.alerts)}; latest stays where it was. See {result.output}/night.md; "
            "if the night is right, the same command with night.accept_drift=true publishes it"
        )
    typer.echo(
        f"latest names {name}" if result.has_moved else "latest stays: it names a later night"
    )
