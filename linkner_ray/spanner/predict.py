"""A model at work: tokens in, candidates out.

Letters: N spans, C classes with non-entity first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from linkner_ray.config import RecognizeConfig, Uncertainty
from linkner_ray.errors import ConfigError
from linkner_ray.spanner.checkpoint import check_estimate, possible_estimates
from linkner_ray.spanner.dropout import sampled_dropout
from linkner_ray.spanner.estimates import (
    estimate,
    mc_dropout,
    recalibrated_estimate,
)
from linkner_ray.spanner.features import Batch
from linkner_ray.spanner.head import ProjectedTokens
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.span_table import (
    CandidateTable,
    SpanTable,
    choose_rows,
    concatenate,
    near_miss_rules,
    recalibrated_probs,
)
from linkner_ray.spanner.windows import Window, batches_under_budget

POOL_TOKENS = 2**18
"""Tokens that are sorted by length together; bounds memory, changes no answer."""

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class Recognizer:
    """Finds candidates in sentences; the same ones whatever they are batched with.

    Other batches move probabilities by some 1e-6, since matrix products of another height add up in
    another order.

    Args:
        model: Put into evaluation mode and onto the device.
        config: What to estimate, which near misses to keep, and how to batch.

    Attributes:
        dtype: What the encoder computes in.

    Raises:
        ConfigError: If the config asks for what the model or the machine cannot give.
    """

    def __init__(self, model: SpanNER, config: RecognizeConfig) -> None:
        check_estimate(config.uncertainty, loss=model.loss, dropout=model.config.dropout)
        device, self.dtype = _placement(config)
        self.model = model.eval().to(device)
        nn.Module.to(self.model.encoder, dtype=self.dtype)
        self.config = config
        self.rules = near_miss_rules(config, model.calibration)

    def candidates(
        self, sentences: Sequence[Sequence[str]], fields: IntArray | None = None
    ) -> CandidateTable:
        """Find the candidates of sentences.

        Args:
            sentences: Tokens of each sentence.
            fields: Number of the field of each token, all sentences one after another; spans over
                several fields are no candidates. None if every sentence is one field.
        """
        name = self.config.uncertainty
        return self._candidates(sentences, (name,), fields)[name]

    def candidates_by_estimate(
        self, sentences: Sequence[Sequence[str]]
    ) -> dict[Uncertainty, CandidateTable]:
        """The same candidates under every estimate that the model can give, from one pass."""
        model = self.model
        names = possible_estimates(loss=model.loss, dropout=model.config.dropout)
        return self._candidates(sentences, names)

    def candidates_by_document(
        self,
        sentences: Sequence[Sequence[str]],
        bounds: Sequence[int],
        fields: IntArray | None = None,
    ) -> CandidateTable:
        """The same, with no sentence of another document in any batch.

        Args:
            sentences: Tokens of each sentence of all documents.
            bounds: First sentence of each document, then the number of all sentences.
            fields: As for `candidates`.
        """
        tables = []
        position = 0
        for first, end in pairwise(bounds):
            ours = sentences[first:end]
            begin, position = position, position + sum(map(len, ours))
            own = None if fields is None else fields[begin:position]
            if ours:
                tables.append((first, self.candidates(ours, own)))
        spans = [replace(t.spans, sentence=t.spans.sentence + first) for first, t in tables]
        nothing = _no_spans(len(self.model.label_set.classes))
        not_finite = [t.not_finite + first for first, t in tables]
        return CandidateTable(
            spans=concatenate([*spans, nothing]),
            predicted=np.concatenate([*(t.predicted for _, t in tables), np.zeros(0, np.bool_)]),
            not_finite=np.concatenate([*not_finite, nothing.sentence]),
        )

    def spans(self, sentences: Sequence[Sequence[str]], *, floor: float) -> SpanTable:
        """Every span that may matter: a label wins over non-entity, or passes the floor.

        Spans for which the model computed NaN or an infinity are left out.

        Args:
            sentences: Tokens of each sentence.
            floor: Entity probability from which a losing span is listed.
        """
        name = self.config.uncertainty
        tables, _ = self.spans_by_estimate(sentences, (name,), floor=floor)
        return tables[name]

    def spans_by_estimate(
        self, sentences: Sequence[Sequence[str]], names: Sequence[Uncertainty], *, floor: float
    ) -> tuple[dict[Uncertainty, SpanTable], IntArray]:
        """The same under several estimates, and the sentences that have a span without a number."""
        found = [
            self._batch_spans(windows, first_sentence, names=names, floor=floor)
            for first_sentence, pool in _pools(sentences)
            for windows in self._batches(pool)
        ]
        nothing = _no_spans(len(self.model.label_set.classes))
        tables = {name: concatenate([*(one[name] for one in found), nothing]) for name in names}
        first = tables[names[0]]
        numbers = [first.probs, *(table.uncertainty[:, None] for table in tables.values())]
        is_finite = np.logical_and.reduce(np.isfinite(np.hstack(numbers)), axis=1)
        order = np.lexsort((first.end_token, first.start_token, first.sentence))
        order = order[is_finite[order]]
        not_finite = np.unique(first.sentence[~is_finite])
        return {name: table.take(order) for name, table in tables.items()}, not_finite

    def _candidates(
        self,
        sentences: Sequence[Sequence[str]],
        names: Sequence[Uncertainty],
        fields: IntArray | None = None,
    ) -> dict[Uncertainty, CandidateTable]:
        tables, not_finite = self.spans_by_estimate(sentences, names, floor=self.rules.floor)
        if fields is not None:
            rows = np.flatnonzero(_in_one_field(tables[names[0]], sentences, fields))
            tables = {name: table.take(rows) for name, table in tables.items()}
        chosen, predicted = choose_rows(tables[names[0]], self.model.label_set.classes, self.rules)
        tables = {name: table.take(chosen) for name, table in tables.items()}
        rows = np.flatnonzero(predicted)
        probs = self._recalibrated(tables[names[0]].take(rows), sentences)
        if probs is not None:
            tables = {name: _with_recalibration(name, t, rows, probs) for name, t in tables.items()}
        return {
            name: CandidateTable(spans=table, predicted=predicted, not_finite=not_finite)
            for name, table in tables.items()
        }

    def _recalibrated(
        self, predicted: SpanTable, sentences: Sequence[Sequence[str]]
    ) -> FloatArray | None:
        """Recalibrated probabilities of predicted spans; None without a recalibration."""
        recalibration, novelty = self.model.calibration.recalibration, self.model.novelty
        if recalibration is None or novelty is None or not len(predicted.probs):
            return None
        classes = self.model.label_set.classes
        return recalibrated_probs(predicted, sentences, classes, recalibration, novelty)

    def _batches(self, sentences: Sequence[Sequence[str]]) -> Iterator[list[Window]]:
        windows = self.model.featurizer.windows(sentences)
        lengths = [self.model.featurizer.length(window) for window in windows]
        for batch in batches_under_budget(lengths, self.config.batch_tokens):
            yield [windows[index] for index in batch]

    @torch.inference_mode()
    def _batch_spans(
        self,
        windows: list[Window],
        first_sentence: int,
        *,
        names: Sequence[Uncertainty],
        floor: float,
    ) -> dict[Uncertainty, SpanTable]:
        batch = self.model.featurizer.collate(windows).to(self.model.device)
        tokens = self.model.project(batch)
        logits = self.model.head(tokens)  # (B, T, W, C)
        probs = self.model.log_probs(logits).exp()
        non_entity = probs[..., 0]
        wins = probs[..., 1:].amax(dim=-1) > non_entity
        # A sum is finite if all that is added up is; such a span is listed, and its table says so.
        broken = ~logits.sum(dim=-1).isfinite()
        chosen = batch.span_mask & (wins | (1.0 - non_entity >= floor) | broken)
        row, start, width = chosen.nonzero(as_tuple=True)
        probs, logits = probs[row, start, width], logits[row, start, width]
        probs = probs.masked_fill(broken[row, start, width].unsqueeze(-1), torch.nan)
        rows, starts, widths = (values.cpu().numpy() for values in (row, start, width))
        start_token = np.array([w.start_token for w in windows], dtype=np.int64)[rows] + starts
        table = SpanTable(
            sentence=np.array([w.sentence for w in windows], np.int64)[rows] + first_sentence,
            start_token=start_token,
            end_token=start_token + widths + 1,
            probs=probs.float().cpu().numpy(),
            uncertainty=np.zeros(len(rows), dtype=np.float32),
        )
        found = {}
        for name in names:
            if name == "mc_dropout":
                values = self._mc_dropout(batch, tokens, (row, start, width))
            else:
                values = estimate(name, probs, logits)
            found[name] = replace(table, uncertainty=values.float().cpu().numpy())
        return found

    def _mc_dropout(
        self, batch: Batch, tokens: ProjectedTokens, place: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """Uncertainty of chosen spans over dropout-sampled heads or models. Shape (N,)."""
        head, config = self.model.head, self.config
        samples = []
        for sample in range(config.dropout_samples):
            seed = (config.seed, sample)
            if config.dropout_scope == "encoder":
                with sampled_dropout(self.model.encoder, head.dropout, seed=seed):
                    tokens = self.model.project(batch)
            samples.append(head.dropout_sampled_logits(head.hidden(tokens, place), seed=seed))
        return mc_dropout(self.model.log_probs(torch.stack(samples)).exp())


def _in_one_field(
    spans: SpanTable, sentences: Sequence[Sequence[str]], fields: IntArray
) -> NDArray[np.bool_]:
    """Whether all tokens of each span stand in one field. Shape (N,)."""
    before = np.cumsum([0, *map(len, sentences)])[spans.sentence]
    one_field: NDArray[np.bool_] = (
        fields[before + spans.start_token] == fields[before + spans.end_token - 1]
    )
    return one_field


def _pools(sentences: Sequence[Sequence[str]]) -> Iterator[tuple[int, Sequence[Sequence[str]]]]:
    """Runs of sentences of bounded size, each with the index of its first sentence."""
    start, size = 0, 0
    for index, sentence in enumerate(sentences):
        if size and size + len(sentence) > POOL_TOKENS:
            yield start, sentences[start:index]
            start, size = index, 0
        size += len(sentence)
    if size:
        yield start, sentences[start:]


def _with_recalibration(
    name: Uncertainty, spans: SpanTable, rows: IntArray, probs: FloatArray
) -> SpanTable:
    """Candidates with recalibrated probabilities in some rows, and uncertainties to match."""
    all_probs, uncertainty = spans.probs.copy(), spans.uncertainty.copy()
    all_probs[rows] = probs
    values = recalibrated_estimate(name, probs, spans.label[rows])
    if values is not None:
        uncertainty[rows] = values
    return replace(spans, probs=all_probs, uncertainty=uncertainty)


def _no_spans(num_classes: int) -> SpanTable:
    nothing = np.zeros(0, dtype=np.int64)
    return SpanTable(
        sentence=nothing,
        start_token=nothing,
        end_token=nothing,
        probs=np.zeros((0, num_classes), dtype=np.float32),
        uncertainty=np.zeros(0, dtype=np.float32),
    )


def _placement(config: RecognizeConfig) -> tuple[torch.device, torch.dtype]:
    has_gpu = torch.cuda.is_available()
    if config.device == "cuda" and not has_gpu:
        raise ConfigError(
            "recognize.device = 'cuda', but torch sees no GPU here; set recognize.device = auto, "
            "or resources.encoder_gpus so that Ray gives the actor one"
        )
    kind = "cuda" if has_gpu and config.device != "cpu" else "cpu"
    if config.dtype == "auto":
        return torch.device(kind), torch.bfloat16 if kind == "cuda" else torch.float32
    return torch.device(kind), getattr(torch, config.dtype)
