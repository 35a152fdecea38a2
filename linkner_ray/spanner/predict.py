"""A model at work: tokens in, candidates out.

Letters: N spans, C classes with non-entity first.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from linkner_ray.config import RecognizeConfig, Uncertainty
from linkner_ray.errors import ConfigError
from linkner_ray.logs.progress import track
from linkner_ray.spanner.checkpoint import check_estimate, possible_estimates
from linkner_ray.spanner.decoding import choose_rows, near_miss_rules
from linkner_ray.spanner.dropout import sampled_dropout
from linkner_ray.spanner.estimates import (
    estimate,
    mc_dropout,
    recalibrated_estimate,
)
from linkner_ray.spanner.features import Batch, Windows, moved
from linkner_ray.spanner.head import Place, ProjectedTokens
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.span_table import (
    CandidateTable,
    SpanTable,
    concatenate,
    recalibrated_probs,
)
from linkner_ray.spanner.tokens import IntArray, Sentences, TokenTable
from linkner_ray.spanner.windows import batches_under_budget

FloatArray = NDArray[np.float32]

MAX_WAITING_LOGITS = 2**23
"""Logits of batches that wait to be chosen from together, 32 MB: a choice waits for a GPU."""


class _Read(NamedTuple):
    """The spans of a batch.

    Attributes:
        sentence: Index of the sentence. Shape (N,).
        start_token: Shape (N,).
        end_token: Shape (N,).
        logits: Shape (N, C).
        sampled: Uncertainty under mc_dropout, if that was asked for. Shape (N,).
    """

    sentence: IntArray
    start_token: IntArray
    end_token: IntArray
    logits: Tensor
    sampled: Tensor | None = None


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

    def candidates(self, sentences: Sentences) -> CandidateTable:
        """Find the candidates of sentences."""
        name = self.config.uncertainty
        return self._candidates(sentences, (name,))[name]

    def candidates_by_estimate(self, sentences: Sentences) -> dict[Uncertainty, CandidateTable]:
        """The same candidates under every estimate that the model can give, from one pass."""
        model = self.model
        names = possible_estimates(loss=model.loss, dropout=model.config.dropout)
        return self._candidates(sentences, names)

    def candidates_by_document(self, tokens: TokenTable, bounds: Sequence[int]) -> CandidateTable:
        """The same, with no sentence of another document in any batch.

        Args:
            tokens: Sentences of all documents.
            bounds: First sentence of each document, then the number of all sentences.
        """
        tables = [
            (first, self.candidates(tokens.between(first, end)))
            for first, end in pairwise(bounds)
            if first < end
        ]
        spans = [replace(t.spans, sentence=t.spans.sentence + first) for first, t in tables]
        nothing = _no_spans(len(self.model.label_set.classes))
        not_finite = [t.not_finite + first for first, t in tables]
        return CandidateTable(
            spans=concatenate([*spans, nothing]),
            predicted=np.concatenate([*(t.predicted for _, t in tables), np.zeros(0, np.bool_)]),
            not_finite=np.concatenate([*not_finite, nothing.sentence]),
        )

    def spans(self, sentences: Sentences, *, floor: float) -> SpanTable:
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
        self, sentences: Sentences, names: Sequence[Uncertainty], *, floor: float
    ) -> tuple[dict[Uncertainty, SpanTable], IntArray]:
        """The same under several estimates, and the sentences that have a span without a number."""
        windows = self.model.featurizer.windows(sentences)
        batches = batches_under_budget(windows.lengths, self.config.batch_tokens)
        nothing = _no_spans(len(self.model.label_set.classes))
        found, waiting, num_logits = [dict.fromkeys(names, nothing)], list[_Read](), 0
        for rows in track(batches, "batches of sentences", len(batches)):
            waiting.append(self._read(windows, rows, names=names, floor=floor))
            num_logits += waiting[-1].logits.numel()
            if num_logits > MAX_WAITING_LOGITS:
                found.append(self._tables(waiting, names=names, floor=floor))
                waiting, num_logits = [], 0
        if waiting:
            found.append(self._tables(waiting, names=names, floor=floor))
        tables = {name: concatenate([one[name] for one in found]) for name in names}
        first = tables[names[0]]
        numbers = [first.probs, *(table.uncertainty[:, None] for table in tables.values())]
        is_finite = np.logical_and.reduce(np.isfinite(np.hstack(numbers)), axis=1)
        order = np.lexsort((first.end_token, first.start_token, first.sentence))
        order = order[is_finite[order]]
        not_finite = np.unique(first.sentence[~is_finite])
        return {name: table.take(order) for name, table in tables.items()}, not_finite

    def _candidates(
        self, sentences: Sentences, names: Sequence[Uncertainty]
    ) -> dict[Uncertainty, CandidateTable]:
        """Candidates under some estimates; sentences that are the same are read once."""
        tokens, number = TokenTable.of(sentences).distinct()
        tables, not_finite = self.spans_by_estimate(tokens, names, floor=self.rules.floor)
        if tokens.fields is not None:
            rows = np.flatnonzero(_in_one_field(tables[names[0]], tokens.first, tokens.fields))
            tables = {name: table.take(rows) for name, table in tables.items()}
        chosen, predicted = choose_rows(tables[names[0]], self.rules)
        tables = {name: table.take(chosen) for name, table in tables.items()}
        rows = np.flatnonzero(predicted)
        probs = self._recalibrated(tables[names[0]].take(rows), tokens)
        if probs is not None:
            tables = {name: _with_recalibration(name, t, rows, probs) for name, t in tables.items()}
        return {
            name: CandidateTable(spans=t, predicted=predicted, not_finite=not_finite).repeated(
                number
            )
            for name, t in tables.items()
        }

    def _recalibrated(self, predicted: SpanTable, tokens: TokenTable) -> FloatArray | None:
        """Recalibrated probabilities of predicted spans; None without a recalibration."""
        recalibration, novelty = self.model.calibration.recalibration, self.model.novelty
        if recalibration is None or novelty is None or not len(predicted.probs):
            return None
        classes = self.model.label_set.classes
        return recalibrated_probs(predicted, tokens, classes, recalibration, novelty)

    @torch.inference_mode()
    def _read(
        self, windows: Windows, rows: IntArray, *, names: Sequence[Uncertainty], floor: float
    ) -> "_Read":
        """Score the spans of a batch; nothing waits for a GPU here, but for mc_dropout."""
        batch = self.model.featurizer.collate(windows, rows)
        place = batch.span_mask.nonzero(as_tuple=True)
        row, start, width = (values.numpy() for values in place)
        batch = batch.to(self.model.device)
        place = tuple(moved(values, self.model.device) for values in place)
        tokens = self.model.project(batch)
        logits = self.model.head.logits_at(tokens, place)
        window = rows[row]
        start_token = windows.start_token[window] + start
        read = _Read(windows.sentence[window], start_token, start_token + width + 1, logits)
        if "mc_dropout" not in names:
            return read
        chosen, logits, _ = self._choose(logits, floor)
        sampled = self._mc_dropout(batch, tokens, tuple(values[chosen] for values in place))
        kept = chosen.cpu().numpy()
        return _Read(
            read.sentence[kept], read.start_token[kept], read.end_token[kept], logits, sampled
        )

    def _choose(self, logits: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
        """Which spans may matter, and their logits and probabilities; NaN if one is no number."""
        rows = self.model.may_matter(logits, floor).nonzero().squeeze(1)
        logits = logits[rows]
        probs = self.model.log_probs(logits).exp()
        wins = probs[:, 1:].amax(dim=-1) > probs[:, 0]
        # A sum is finite if all that is added up is; such a span is listed, and its table says so.
        broken = ~logits.sum(dim=-1).isfinite()
        chosen = wins | (1.0 - probs[:, 0] >= floor) | broken
        probs = probs[chosen].masked_fill(broken[chosen, None], torch.nan)
        return rows[chosen], logits[chosen], probs

    @torch.inference_mode()
    def _tables(
        self, reads: "Sequence[_Read]", *, names: Sequence[Uncertainty], floor: float
    ) -> dict[Uncertainty, SpanTable]:
        """The spans of batches that may matter, under some estimates."""
        logits = torch.cat([read.logits for read in reads])
        chosen, logits, probs = self._choose(logits, floor)
        rows = chosen.cpu().numpy()
        sentence, start_token, end_token = (
            np.concatenate([read[column] for read in reads])[rows] for column in range(3)
        )
        found = {}
        for name in names:
            if name == "mc_dropout":
                sampled = [read.sampled for read in reads if read.sampled is not None]
                values = torch.cat(sampled)[chosen]
            else:
                values = estimate(name, probs, logits)
            found[name] = SpanTable(
                sentence=sentence,
                start_token=start_token,
                end_token=end_token,
                probs=probs.float().cpu().numpy(),
                uncertainty=values.float().cpu().numpy(),
            )
        return found

    def _mc_dropout(self, batch: Batch, tokens: ProjectedTokens, place: Place) -> Tensor:
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
    spans: SpanTable, first: IntArray, fields: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Whether all tokens of each span stand in one field. Shape (N,)."""
    before = first[spans.sentence]
    one_field: NDArray[np.bool_] = (
        fields[before + spans.start_token] == fields[before + spans.end_token - 1]
    )
    return one_field


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
