"""How far a training is, said by its first worker and read by its driver in the run's folder."""

import json
import time

from linkner_ray.logs.progress import Step
from linkner_ray.storage import Folder

FILE = "_progress.json"
"""There while a training is under way."""

INTERVAL_S = 5.0
"""Least time between two notes."""


class Told:
    """Says it, in the worker."""

    def __init__(self, run: Folder) -> None:
        self._run = run
        self._last = 0.0

    def __call__(self, done: int, note: str) -> None:
        """Say how many steps are done, if it is time to."""
        if time.monotonic() - self._last >= INTERVAL_S:
            self._last = time.monotonic()
            self._run.write_whole(FILE, json.dumps([done, note]).encode())


def look(run: Folder, step: Step) -> None:
    """Put what was said last into a step, in the driver."""
    if run.exists(FILE):
        step.update(*json.loads(run.read_bytes(FILE)))
