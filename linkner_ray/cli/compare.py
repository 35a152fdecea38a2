"""`linkner compare`: which of two evaluations is better, and whether that may be chance."""

from typing import Annotated

import typer

from linkner_ray.cli.files import check_writable, write_json


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Folder of an evaluation.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Folder of another.")],
    json_file: Annotated[str | None, typer.Option("--json", help="File for the numbers.")] = None,
) -> None:
    """Say by how much evaluation B is better than A on the sets of both, with intervals.

    Example: linkner compare scores/monday scores/tuesday --json difference.json
    """
    check_writable(json_file)
    from linkner_ray.evaluation.as_json import as_json
    from linkner_ray.evaluation.comparison import compare_evaluations, describe_comparison

    found = compare_evaluations(first, second)
    typer.echo(describe_comparison(found))
    write_json(json_file, as_json(found))
