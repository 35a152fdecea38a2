"""Options that several commands have."""

from typing import Annotated

import typer
import yaml

ConfigFile = Annotated[
    str | None,
    typer.Option("--config", help="YAML file; see jobs/configs/ of the source."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the resolved config and what would be done.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Dotted overrides, such as routing.threshold=0.3")
]
Checkpoint = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help="Folder that training wrote.")
]
JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="File for the result as JSON; - prints it alone."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print nothing but errors and warnings, and no bar.")
]


def print_yaml(tree: object) -> None:
    """Print a tree of values, keys in their order."""
    print(yaml.safe_dump(tree, sort_keys=False).rstrip())
