"""Places at which a test may kill the process that passes them; off unless it asks.

`LINKNER_FAULT_POINTS` names a folder of empty files, one for each passing of a point by whatever
process: `rename-0`, `rename-1`, `rename-2-kill` let two pass and kill the third. A passing takes
one file away, so a point kills once, and what does the work again passes.

    write     before a file of a unit is written
    rename    between a file's hidden name and its own (no object store has hidden names)
    written   after the last file of a unit, before the driver hears of it
    manifest  before `_manifest.json`
    success   between `_manifest.json` and `_SUCCESS`
"""

import os
import signal
from pathlib import Path

VARIABLE = "LINKNER_FAULT_POINTS"

POINTS = ("write", "rename", "written", "manifest", "success")


def fault_point(name: str) -> None:
    """Pass a point: die there if a test wants it."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return
    for passing in sorted(Path(folder).glob(f"{name}-*")):
        try:
            passing.unlink()
        except FileNotFoundError:  # another process passed here at the same moment
            continue
        if passing.name.endswith("-kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        return


def arm(folder: Path, name: str, *, passing: int) -> Path:
    """Let the n-th passing of a point, counted from 0, be a process's last.

    Returns:
        A file that is gone as soon as that happens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(passing):
        (folder / f"{name}-{number:04d}").touch()
    last = folder / f"{name}-{passing:04d}-kill"
    last.touch()
    return last
