"""The command `linkner`: one file a group of commands."""

from linkner_ray.cli.app import main

__all__ = ["main"]
