"""`linkner compare`: which of two evaluations is better, and whether that may be chance."""

import json
from pathlib import Path
from typing import Annotated

import typer


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Folder of an evaluation.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Folder of another.")],
    json_file: Annotated[str | None, typer.Option("--json", help="File for the numbers.")] = None,
) -> None:
    """Say by how much evaluation B is better than A on the sets of both, with intervals.

    Example: linkner compare scores/monday scores/tuesday --json difference.json
    """
    from linkner_ray.evaluation.comparison import compare_evaluations, describe_comparison

    found = compare_evaluations(first, second)
    typer.echo(describe_comparison(found))
    if json_file is not None:
        content = json.dumps(found.as_dict(), indent=2) + "\n"
        Path(json_file).write_text(content, encoding="utf-8")
