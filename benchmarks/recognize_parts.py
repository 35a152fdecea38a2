"""Where the time of the recognise stage goes."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from linkner_ray.spanner import features, predict
from linkner_ray.stages.recognize_spans import RecognizeSpans

_OUTSIDE = ("model", "tokenisation", "collating", "transfer")
_OF: dict[str, Callable[[dict[str, float]], float]] = {
    "stage": lambda s: s["stage"],
    "encoder": lambda s: s["encoder"],
    "head": lambda s: s["model"] - s["encoder"],
    "tokenisation": lambda s: s["tokenisation"],
    "collating": lambda s: s["collating"],
    "transfer": lambda s: s["transfer"],
    "decoding": lambda s: s["candidates"] - sum(s[part] for part in _OUTSIDE),
    "arrow": lambda s: s["stage"] - s["candidates"],
    "around_the_model": lambda s: s["stage"] - s["model"],
}
"""Seconds of each part, by those of what is watched."""

PARTS = tuple(name for name in _OF if name != "stage")


def seconds_of_parts(
    stage: RecognizeSpans,
    documents: pa.Table,
    *,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Seconds of each of `PARTS` and of the whole "stage"; the median over rounds.

    Collating pads windows to batches, transfer brings them to the device. Decoding is what
    `Recognizer.candidates` does besides these and the model: it finds the spans that matter, their
    probabilities, and the candidates. Arrow is what the stage does around it.

    Args:
        stage: Ran with the documents before.
        documents: With sentences.
        rounds: At least 1.
        clock: Processor time by default, all threads together.
    """
    spent: dict[str, float] = {}

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever it takes and gives
            started = clock()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] = spent.get(part, 0.0) + clock() - started

        return call

    recognizer = stage.recognizer
    featurizer, model = recognizer.model.featurizer, recognizer.model
    watched = [
        (recognizer, "candidates", "candidates"),
        (featurizer, "windows", "tokenisation"),
        (featurizer, "collate", "collating"),
        (features, "moved", "transfer"),
        (predict, "moved", "transfer"),
        (model, "project", "model"),
        (model.head, "logits_at", "model"),
        (model.encoder, "forward", "encoder"),
    ]
    rows = []
    with ExitStack() as stack:
        for owner, name, part in watched:
            stack.enter_context(mock.patch.object(owner, name, timed(getattr(owner, name), part)))
        for _ in range(rounds):
            spent.clear()
            timed(stage, "stage")(documents)
            rows.append(dict(spent))
    return {name: float(np.median([part(row) for row in rows])) for name, part in _OF.items()}
