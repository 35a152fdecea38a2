"""SpanNER: a pretrained encoder and a span head.

Letters: B windows, T tokens, W widths, C classes with non-entity first, H encoder width.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from tokenizers import Tokenizer
from torch import Tensor, nn

from linkner_ray.config import ModelConfig
from linkner_ray.errors import ConfigError, StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.spanner import checkpoint
from linkner_ray.spanner.calibration.novelty import NoveltyFeatures
from linkner_ray.spanner.calibration.temperature import Calibration, apply_temperature
from linkner_ray.spanner.encoders import build_encoder, load_encoder, longest_input
from linkner_ray.spanner.features import NO_MORPHOLOGY, Batch, Featurizer
from linkner_ray.spanner.head import ProjectedTokens, SpanHead
from linkner_ray.spanner.losses import evidence_of
from linkner_ray.spanner.subwords import SpecialIds, special_ids

if TYPE_CHECKING:
    from linkner_ray.spanner.encoders import Encoder


class SpanNER(nn.Module):
    """Gives every span of a sentence a score for each label and for non-entity.

    The case and shape class of each token is added to the encoder's input, from zero at the start
    of training, so an encoder that lower-cases its text still sees case in context.

    Args:
        encoder: Any encoder of `AutoModel`.
        tokenizer: Its fast tokenizer.
        special: Ids of the tokenizer that are not text.
        label_set: Labels, in the order of the classes.
        config: Architecture.
        loss: What the weights are trained with; decides how logits become probabilities.

    Raises:
        ConfigError: If the encoder cannot read windows as long as the config asks for.
    """

    def __init__(  # noqa: PLR0913 - the parts of a model
        self,
        encoder: "Encoder",
        tokenizer: Tokenizer,
        special: SpecialIds,
        *,
        label_set: LabelSet,
        config: ModelConfig,
        loss: checkpoint.Loss = "cross_entropy",
    ) -> None:
        super().__init__()
        limit = longest_input(encoder)
        if limit is not None and config.max_subwords > limit:
            raise ConfigError(
                f"model.max_subwords = {config.max_subwords}, but {config.encoder} reads at most "
                f"{limit}; set model.max_subwords={limit}"
            )
        self.label_set = label_set
        self.config = config
        self.loss: checkpoint.Loss = loss
        self.calibration = Calibration()
        self.novelty: NoveltyFeatures | None = None
        self.languages: tuple[str, ...] | None = None
        self.featurizer = Featurizer(
            tokenizer,
            special,
            max_subwords=config.max_subwords,
            window_overlap=config.window_overlap,
            max_width=config.max_width,
        )
        self.encoder = encoder
        self.case_embedding: nn.Embedding | None = None
        if config.use_morphology:
            _, width = encoder.get_input_embeddings().get_parameter("weight").shape
            self.case_embedding = nn.Embedding(NO_MORPHOLOGY + 1, width, padding_idx=NO_MORPHOLOGY)
            nn.init.zeros_(self.case_embedding.weight)
        self.head = SpanHead(encoder.config.hidden_size, len(label_set.classes), config)

    @classmethod
    def from_encoder(
        cls, config: ModelConfig, label_set: LabelSet, *, loss: checkpoint.Loss = "cross_entropy"
    ) -> Self:
        """A pretrained encoder with a new head.

        Raises:
            ConfigError: If the encoder cannot be loaded, or its windows are too short.
        """
        encoder, tokenizer = load_encoder(config.encoder)
        special = special_ids(tokenizer)
        return cls(encoder, tokenizer, special, label_set=label_set, config=config, loss=loss)

    @classmethod
    def from_pretrained(cls, path: str) -> Self:
        """Load a checkpoint that `save_pretrained` wrote, in evaluation mode.

        Raises:
            ConfigError: If there is no such folder.
            StartupError: If it is incomplete, damaged, or of another model.
        """
        parts = checkpoint.read_parts(checkpoint.local_checkpoint(path))
        folder = parts.folder
        try:
            model = cls(
                build_encoder(folder / "encoder"),
                parts.tokenizer,
                parts.special,
                label_set=parts.label_set,
                config=parts.model,
                loss=parts.loss,
            )
            load_model(model, folder / checkpoint.WEIGHTS)
        except (SafetensorError, RuntimeError, OSError, ValueError, ConfigError) as error:
            raise StartupError(
                f"{folder}: weights and architecture do not go together or are damaged: {error}; "
                "restore the files"
            ) from error
        model.calibration = parts.calibration
        model.novelty = parts.novelty
        model.languages = parts.languages
        return model.eval()

    def save_pretrained(self, folder: Path) -> None:
        """Write the checkpoint to a local folder."""
        checkpoint.write_parts(
            checkpoint.CheckpointParts(
                folder=folder,
                model=self.config,
                loss=self.loss,
                label_set=self.label_set,
                special=self.featurizer.special,
                tokenizer=self.featurizer.subwords.tokenizer,
                calibration=self.calibration,
                novelty=self.novelty,
                languages=self.languages,
            )
        )
        self.encoder.config.save_pretrained(folder / "encoder")
        save_model(self, str(folder / checkpoint.WEIGHTS))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.output.weight.device

    def forward(self, batch: Batch) -> Tensor:
        """Logits of all spans.

        Returns:
            At [b, t, w] the span of tokens [t, t + w + 1); only those of `batch.span_mask` mean
            anything. Shape (B, T, W, C), float32.
        """
        logits: Tensor = self.head(self.project(batch))
        return logits

    def project(self, batch: Batch) -> ProjectedTokens:
        """Encode windows and project their tokens for the span head. Shape (B, T, D) each."""
        if self.case_embedding is None:
            inputs = {"input_ids": batch.input_ids}
        else:
            embedded = self.encoder.get_input_embeddings()(batch.input_ids)
            embedded += self.case_embedding(batch.subword_morphology).to(embedded)
            inputs = {"inputs_embeds": embedded}
        output = self.encoder(**inputs, attention_mask=batch.attention_mask)
        states = output.last_hidden_state.to(self.head.output.weight.dtype)  # (B, L, H)
        first, last = (_states_at(states, places) for places in (batch.first, batch.last))
        return self.head.project(first, last, batch.morphology)

    def log_probs(self, logits: Tensor) -> Tensor:
        """Calibrated log-probabilities of the classes. Shape (..., C) in and out."""
        return apply_temperature(self._scores(logits), self.calibration.temperature)

    def may_matter(self, logits: Tensor, floor: float) -> Tensor:
        """Whether a label may win, or all labels together reach a probability.

        A bound that is quicker than probabilities and never too low, also where there is no number.

        Args:
            logits: Shape (..., C).
            floor: Probability of all labels.

        Returns:
            Shape (...).
        """
        scores = self._scores(logits)
        lead = scores[..., 1:].amax(dim=-1) - scores[..., 0]
        # With x = exp(lead / temperature), C - 1 labels have at most (C - 1) x / (1 + (C - 1) x).
        odds = max(0.0, floor) / max(1e-9, 1.0 - floor) / (logits.shape[-1] - 1)
        least = math.log(odds) * self.calibration.temperature if odds else -math.inf
        may: Tensor = ~(lead < min(0.0, least) - 0.01)  # more than all rounding
        if not logits.sum().isfinite():
            may |= ~logits.sum(dim=-1).isfinite()
        return may

    def _scores(self, logits: Tensor) -> Tensor:
        """What a softmax makes probabilities of. Shape (..., C) in and out."""
        return torch.log(evidence_of(logits) + 1.0) if self.loss == "evidential" else logits


def _states_at(states: Tensor, places: Tensor) -> Tensor:
    """Rows of (B, L, H) at positions (B, T). Shape (B, T, H)."""
    size, length, width = states.shape
    rows = places + torch.arange(0, size * length, length, device=places.device)[:, None]
    return states.flatten(0, 1).index_select(0, rows.flatten()).view(*places.shape, width)
