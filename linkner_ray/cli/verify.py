"""`linkner verify`: whether an output is what its manifest says."""

from typing import Annotated

import typer

from linkner_ray.errors import DataError


def verify(output: Annotated[str, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Read every file of a finished run and compare it with the manifest.

    Example: linkner verify s3://bucket/entities/2026-01-01
    """
    from linkner_ray.runs.manifest import verify_output
    from linkner_ray.storage import Folder

    num_files, faults = verify_output(Folder.at(output))
    if faults:
        raise DataError("\n".join([f"{output} is not what its manifest says:", *faults]))
    typer.echo(f"{output}: {num_files} files are as the manifest lists them")
