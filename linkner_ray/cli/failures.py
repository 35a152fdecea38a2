"""The commands `linkner failures`: what a run could not read, and having it done again."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkner_ray.cli.options import JsonFile, Quiet
from linkner_ray.cli.output import set_output, write_json_rows
from linkner_ray.errors import ConfigError, counted
from linkner_ray.reporting.visible import make_visible

if TYPE_CHECKING:  # imported where a command needs it: `linkner --help` shows this module, too
    import pyarrow as pa

    from linkner_ray.runs.failures import FailedShard, Wanted
    from linkner_ray.runs.folder import RunFolder
    from linkner_ray.runs.units import Source

RAW_SHOWN = 60
SHOWN = 50

app = typer.Typer(
    help="What a run could not read: list it, and have it done again once it is repaired.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Output = Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of a run: output.path.")]
Reasons = Annotated[
    list[str] | None, typer.Option("--reason", help="Failures of this reason only; repeatable.")
]
Files = Annotated[
    list[str] | None,
    typer.Option("--file", help="Shards of this path only, * standing for anything; repeatable."),
]


@app.command(name="list")
def list_failures(
    output: Output,
    reason: Reasons = None,
    file: Files = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"Most entries; {SHOWN} by default, with --json all."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Say what is in quarantine, by reason and file, with a first example of each.

    Example: linkner failures list s3://crawl/out --reason bad_json --json -
    """
    set_output(json_file=json_file)
    from linkner_ray.extract.spread import BySize
    from linkner_ray.runs.counters import num_failed
    from linkner_ray.runs.failures import read_failures
    from linkner_ray.runs.folder import RunFolder

    run = RunFolder(output)
    run.known_record()
    unit_results = run.unit_results(spread=BySize())
    tables = read_failures(run, unit_results, _wanted(reason, file))
    if json_file is not None:
        rows = (row for table in tables for row in table.to_pylist())
        write_json_rows(json_file, "failures", islice(rows, limit))
        return
    groups, files = _groups(tables)
    total = sum(count for count, _ in groups.values())
    unanswered = sum(num_failed(result.counts) for result in unit_results)
    print(
        f"{counted(total - files, 'document')} and {counted(files, 'file')} in quarantine"
        + (f"; {counted(unanswered, 'span')} without an answer of the LLM" if unanswered else "")
    )
    shown = limit or SHOWN
    largest = sorted(groups.items(), key=lambda item: (-item[1][0], item[0]))
    for (why, path), (count, first) in largest[:shown]:
        print(f"\n{count:,} {why}  {make_visible(path, one_line=True)}")
        print(f"  {_place(first)}: {make_visible(first['detail'], one_line=True)}")
        if first["raw"]:
            print(f"  {make_visible(first['raw'][:RAW_SHOWN], one_line=True)}")
    if len(groups) > shown:
        print(f"\n... and {len(groups) - shown:,} more; see --limit, --reason and --file")


@app.command(name="requeue")
def requeue_failures(  # noqa: PLR0913, PLR0917 - each is an option of the command
    output: Output,
    reason: Reasons = None,
    file: Files = None,
    drop_gone: Annotated[
        bool, typer.Option("--drop-gone", help="Drop the output of shards that are gone, too.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Have the next run of the same command do again what failed.

    Of a shard that is as it was, the units with failures are done again; of one that was repaired,
    all. Everything else stays. Spans without an answer of the LLM count as failures, too, with the
    reason failed_answer.

    Example: linkner failures requeue s3://crawl/out --file '*/2026-11-24/*'
    """
    set_output(quiet=quiet)
    from linkner_ray.config import OutputConfig
    from linkner_ray.runs.failures import requeue
    from linkner_ray.runs.folder import RunFolder
    from linkner_ray.runs.lock import OutputLock

    run = RunFolder(output)
    record = run.known_record()
    if dry_run:
        _find(run, record, _wanted(reason, file), drop_gone=drop_gone)
        return
    settings = OutputConfig.model_validate(record["config"]["output"])
    with OutputLock(run.folder, url=output, timeout_s=settings.lock_timeout_s, say=print):
        shards = _find(run, record, _wanted(reason, file), drop_gone=drop_gone)
        requeue(run, shards)
    if shards:
        print("run the same command again to have them done")


def _find(
    run: "RunFolder", record: Mapping[str, Any], wanted: "Wanted", *, drop_gone: bool
) -> "list[FailedShard]":
    """Shards to do again, each with a line about it."""
    from linkner_ray.extract.spread import BySize
    from linkner_ray.runs.failures import find_failed_shards
    from linkner_ray.runs.folder import json_digest

    found = find_failed_shards(
        run.unit_results(spread=BySize()),
        wanted,
        plan_digest=json_digest(record["plan"]),
        source_now=lambda path: _source_now(path, record["config"]),
    )
    shards = [shard for shard in found if drop_gone or shard.state != "gone"]
    for shard in found:
        print(_line(shard, is_left=shard not in shards))
    _check_budget(shards, record["plan"])
    units = sum(len(shard.units) for shard in shards)
    print(f"{counted(units, 'unit')} to do again" if units else "nothing to do again")
    return shards


def _wanted(reason: list[str] | None, file: list[str] | None) -> "Wanted":
    from linkner_ray.runs.failures import Wanted

    return Wanted(reasons=tuple(reason or ()), files=tuple(file or ()))


def _source_now(path: str, config: Mapping[str, Any]) -> "Source | None":
    """A shard as it is now."""
    from linkner_ray.config import InputConfig
    from linkner_ray.readers import list_sources

    settings = InputConfig.model_validate({**config["input"], "paths": [path]})
    try:
        found = list_sources(settings)
    except ConfigError as error:
        if isinstance(error.__cause__, OSError):
            raise  # the store did not answer; that says nothing of the shard
        return None
    return next((source for source in found if source.path == path), None)


def _check_budget(shards: "list[FailedShard]", plan: Mapping[str, Any]) -> None:
    """Refuse where the next run would be another one."""
    moved = [shard.path for shard in shards if shard.state != "unchanged"]
    if moved and "budget_over" in plan:
        raise ConfigError(
            f"{moved[0]} has changed, and this run has a budget in calls, which is divided over "
            "the bytes of all shards: every unit may ask others now. Choose another output.path; "
            "with an answer cache, what was asked is not asked again"
        )


def _groups(
    tables: "Iterable[pa.Table]",
) -> tuple[dict[tuple[str, str], tuple[int, dict[str, Any]]], int]:
    """Number of rows and the first of them by reason and path; and how many stand for files."""
    from linkner_ray.runs.counters import count_files

    groups: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
    files = 0
    for table in tables:
        files += count_files(table)
        for row in table.to_pylist():
            key = (row["reason"], row["path"])
            count, first = groups.get(key, (0, row))
            groups[key] = (count + 1, first)
    return groups, files


def _place(row: Mapping[str, Any]) -> str:
    if row["record"] is None and row["doc_id"] is not None:
        return make_visible(row["doc_id"], one_line=True)
    if row["record"] is None:
        offset = row["byte_offset"]
        return "the file" if offset is None else f"the file from byte {offset:,} on"
    place = f"record {row['record']}"
    return place if row["byte_offset"] is None else f"{place}, byte {row['byte_offset']:,}"


def _line(shard: "FailedShard", *, is_left: bool) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(shard.reasons.items()))
    units = counted(len(shard.units), "unit")
    done = f"{units} to do again"
    if is_left:
        done = "left as it is; --drop-gone drops its output"
    elif shard.state == "gone":
        done = f"{units} dropped"
    return f"{make_visible(shard.path, one_line=True)}: {shard.state}; {reasons}; {done}"
