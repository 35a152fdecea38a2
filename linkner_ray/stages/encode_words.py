"""Words to subwords, before the local model and without it."""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.schemas import STAGE_COLUMNS, make_lists, offsets_of
from linkner_ray.spanner.subwords import SubwordEncoder
from linkner_ray.stages.document_tokens import DocumentTokens


class EncodeWords:
    """`text`, `sentences` -> `subwords`: the vocabulary ids of each token.

    `RecognizeSpans` computes them itself where the column is missing. Processes that read do it
    before, so that no GPU waits: a word that was not seen before takes longer than all else that an
    encoder actor does for it. Documents whose `candidates` are known get no subwords.
    """

    reads: ClassVar[tuple[str, ...]] = ("text", "sentences")
    adds: ClassVar[tuple[str, ...]] = ("subwords",)

    def __init__(self, encoder: SubwordEncoder) -> None:
        """Take the encoder of a checkpoint; it remembers words from call to call."""
        self._encoder = encoder

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add `subwords`."""
        read = batch.select(list(self.reads))
        if "candidates" in batch.column_names:
            is_needed = pc.is_null(batch["candidates"])
            nothing = pa.scalar(None, STAGE_COLUMNS["sentences"])
            sentences = pc.if_else(is_needed, batch["sentences"], nothing)
            read = read.set_column(1, "sentences", sentences)
        tokens = DocumentTokens(read)
        table = tokens.table()
        subwords = self._encoder(table.words)
        ids = pa.array(subwords.of(table.word).astype(np.int32))
        of_tokens = make_lists(ids, offsets_of(subwords.counts_of(table.word)))
        column = make_lists(of_tokens, tokens.bounds, STAGE_COLUMNS["subwords"])
        return batch.append_column("subwords", column)
