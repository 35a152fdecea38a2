"""The commands `linkner cache`: what is kept, whether it is whole, making it smaller."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from linkner_ray.cli.options import JsonFile, Quiet
from linkner_ray.cli.output import set_output, write_json
from linkner_ray.errors import ConfigError, ErrorLimitError, counted

if TYPE_CHECKING:  # imported where a command needs it: `linkner --help` shows this module, too
    from linkner_ray.llm.cache.upkeep import Compaction

app = typer.Typer(
    help="Answer caches: the answers of LLMs that are kept, so that nothing is asked twice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Folder = Annotated[
    str, typer.Argument(metavar="FOLDER", help="As in cache.path, local or with a scheme.")
]


@app.command()
def stats(folder: Folder, json_file: JsonFile = None) -> None:
    """Say what an answer cache holds: answers by model and verdict, files, times.

    Example: linkner cache stats cache/
    """
    set_output(json_file=json_file)
    from linkner_ray.llm.cache.files import STORED_VERDICTS
    from linkner_ray.llm.cache.upkeep import statistics

    said = statistics(folder)
    sizes, faults, latency = said.survey.sizes, said.survey.faults, said.mean_latency_s
    rows = {
        "answers": f"{said.survey.num_answers:,}",
        "files": f"{len(sizes):,}, {sum(sizes.values()):,} bytes",
        "not trusted": f"{counted(len(faults), 'file')}; see `linkner cache verify {folder}`",
        "asked": "never",
        "mean latency": "unknown",
    }
    if not faults:
        del rows["not trusted"]
    if said.times:
        rows["asked"] = "{:%Y-%m-%d %H:%M:%S} to {:%Y-%m-%d %H:%M:%S} UTC".format(*said.times)
    if latency is not None:
        rows["mean latency"] = f"{latency:.3f} s, waiting for its turn included"
    for name, value in rows.items():
        print(f"{name:<13} {value}")
    for (model, revision), counts in said.by_model.items():
        print(f"\n{model}, revision {revision or 'unknown'}")
        for verdict in STORED_VERDICTS:
            print(f"  {verdict.replace('_', ' '):<11} {counts[verdict]:,}")
    tree = {
        "num_answers": said.survey.num_answers,
        "num_files": len(sizes),
        "num_bytes": sum(sizes.values()),
        "asked": [time.isoformat() for time in said.times or ()],
        "mean_latency_s": latency,
        "models": [
            {"model": model, "revision": revision or None, **counts}
            for (model, revision), counts in said.by_model.items()
        ],
        "faults": [fault._asdict() for fault in faults],
    }
    write_json(json_file, "cache", tree)


@app.command()
def verify(folder: Folder, json_file: JsonFile = None, quiet: Quiet = False) -> None:
    """Read every file of an answer cache; exit 3 and name those that are broken or foreign.

    Example: linkner cache verify s3://crawl/cache
    """
    set_output(quiet=quiet, json_file=json_file)
    from linkner_ray.llm.cache.upkeep import survey

    found = survey(folder)
    print(f"{counted(len(found.sizes), 'good file')}, {counted(found.num_answers, 'answer')}")
    for fault in found.faults:
        print(f"{'broken' if fault.is_broken else 'ignored'}: {fault.name}: {fault.problem}")
    tree = {
        "num_files": len(found.sizes),
        "num_answers": found.num_answers,
        "faults": [fault._asdict() for fault in found.faults],
    }
    write_json(json_file, "cache-verification", tree)
    if found.faults:
        raise ErrorLimitError(
            f"{folder}: not trusted: {counted(len(found.faults), 'file')}, whose answers are asked "
            "anew. `linkner cache compact` sets broken ones aside; move others away"
        )


@app.command()
def prune(
    folder: Folder,
    model: Annotated[str, typer.Option(help="Drop answers of this model only.")] = "",
    before: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Drop answers older than this, UTC."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Drop answers by model, by age, or by both together, and merge the rest into one file.

    Example: linkner cache prune cache/ --model Qwen/Qwen2.5-7B-Instruct --before 2026-11-01
    """
    set_output(quiet=quiet)
    import pyarrow as pa
    import pyarrow.compute as pc

    from linkner_ray.llm.cache.upkeep import compact

    if not model and before is None:
        raise ConfigError("linkner cache prune: say what to drop, with --model, --before or both")

    def keep(answers: pa.Table) -> pa.Table:
        goes = pa.array([True] * answers.num_rows, pa.bool_())
        if model:
            goes = pc.and_(goes, pc.equal(answers["model"], model))
        if before is not None:
            limit = pa.scalar(before.replace(tzinfo=UTC), pa.timestamp("us", tz="UTC"))
            goes = pc.and_(goes, pc.less(answers["time"], limit))
        return answers.filter(pc.invert(goes))

    _report(compact(folder, keep=keep))


@app.command(name="compact")
def merge(folder: Folder, quiet: Quiet = False) -> None:
    """Merge the files of an answer cache into one and set broken ones aside; also while runs write.

    Example: linkner cache compact cache/
    """
    set_output(quiet=quiet)
    from linkner_ray.llm.cache.upkeep import compact

    _report(compact(folder))


def _report(done: "Compaction") -> None:
    print(
        f"{counted(done.kept, 'answer')} kept, {done.dropped:,} dropped, "
        f"{counted(done.files_before, 'file')} merged"
    )
    for fault in done.faults:
        what = "set aside" if fault.is_broken else "left where it is"
        print(f"{fault.name}: {what}: {fault.problem}")
