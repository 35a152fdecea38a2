"""A driver that extracts, and whose actors say which unit they begin on which node.

`python -m tests.nodes_job FOLDER OVERRIDE ...` leaves one empty file in FOLDER for each unit that
an actor loads for or begins, see `events`. While FOLDER has a file `hold`, an encoder takes as many
units as that says and waits before the next one: what a test needs to happen in the middle of a
run then happens in the middle, however slow the machine.
"""

import itertools
import os
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import ray

from linkner_ray.cli.app import main as linkner
from linkner_ray.extract import pipeline
from linkner_ray.extract.pipeline import RunStep

HOLD = "hold"
LOADED = "loaded"
"""In place of a unit, when an actor has its models."""


class Event(NamedTuple):
    """A unit, and who began it."""

    role: str
    node: str
    process: int
    unit: str


def events(folder: Path) -> list[Event]:
    """What the actors have said so far."""
    names = [path.name.split(" ") for path in folder.iterdir() if " " in path.name]
    return [Event(role, node, int(process), unit) for role, node, process, unit, _ in names]


class Watched(RunStep):
    """An actor that says what it begins."""

    folder: Path
    """Set by the driver; a class of a main module travels to the actors with all it holds."""

    def __init__(self, make_step) -> None:
        super().__init__(make_step)
        self.role = "llm" if make_step.func is pipeline._classify else "encoder"
        self.number = itertools.count(1)
        self.say(LOADED)

    def __call__(self, batch: pa.Table) -> pa.Table:
        for unit in batch["name"].to_pylist():
            self.say(unit)
        if self.role == "encoder":
            self.hold(next(self.number))
        return super().__call__(batch)

    def say(self, unit: str) -> None:
        node = ray.get_runtime_context().get_node_id()
        (self.folder / f"{self.role} {node} {os.getpid()} {unit} {uuid.uuid4()}").touch()

    def hold(self, number: int) -> None:
        """Wait as long as fewer units than `number` may be taken."""
        try:
            while number > int((self.folder / HOLD).read_text()):
                time.sleep(0.05)
        except FileNotFoundError:
            return


if __name__ == "__main__":
    Watched.folder = Path(sys.argv[1])
    pipeline.RunStep = Watched
    sys.exit(linkner(["extract", *sys.argv[2:]]))
