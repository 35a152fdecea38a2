"""The local model, loaded when the first document needs it."""

from collections.abc import Callable
from typing import ClassVar

import pyarrow as pa

from linkner_ray.stages.contract import Stage


class RecognizeWhenNeeded:
    """`text`, `sentences` -> `candidates`, by a stage that is made when it is first called.

    An incremental run reuses most candidates; where it reuses all of them, no encoder is loaded.
    """

    reads: ClassVar[tuple[str, ...]] = ("text", "sentences")
    adds: ClassVar[tuple[str, ...]] = ("candidates",)

    def __init__(self, make: Callable[[], Stage]) -> None:
        """Take what makes the stage."""
        self._make = make
        self._stage: Stage | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add `candidates`.

        Raises:
            LinknerError: What making the stage or the stage itself raises.
        """
        if self._stage is None:
            self._stage = self._make()
        return self._stage(batch)
