"""The local model at work, and which of its candidates go to the LLM."""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from linkner_ray.config.base import Config, Decides, Step
from linkner_ray.config.budget import parse_budget
from linkner_ray.errors import ConfigError

Uncertainty = Literal["confidence", "entropy", "mc_dropout", "evidential"]
"""Estimates of `spanner.estimates`."""

_THRESHOLD_NAME = re.compile(r"(asked|risk)=(\d+)%")


def parse_threshold_name(name: str) -> tuple[str, int]:
    """The kind of a threshold in `routing.threshold_for`, and its percentage.

    Raises:
        ValueError: If it is no such name.
    """
    parts = _THRESHOLD_NAME.fullmatch(name)
    if parts is None:
        raise ValueError(f"'{name}' names no threshold; expected 'asked=5%' or 'risk=2%'")
    return parts[1], int(parts[2])


class RecognizeConfig(Config):
    """The local model at work."""

    decides: ClassVar[Step | None] = "encoder"

    checkpoint: Annotated[str, Decides(None)] = ""
    """Folder written by training, local or with a scheme."""

    uncertainty: Annotated[Uncertainty, Decides("calibration")] = "confidence"
    """Which estimate decides the routing."""

    near_miss_floor: Annotated[float | None, Decides("calibration")] = Field(None, ge=0, le=1)
    """Entity probability from which a span that lost becomes a near miss. This and the next two
    keys default to what the dev set of the checkpoint chose."""

    max_near_misses: Annotated[int | None, Decides("calibration")] = Field(None, ge=0)
    """Near misses for each sentence, the most probable first; 0 for predicted only."""

    certain_confidence: Annotated[float | None, Decides("calibration")] = Field(None, ge=0, le=1)
    """A near miss may overlap a predicted entity only below this confidence."""

    batch_tokens: Annotated[int, Decides(None)] = Field(1024, ge=64)
    """Padded subwords in one forward pass. On CPU 1,024 took 0.68 of the time of 4,096; a GPU
    wants tens of thousands."""

    batch_scope: Literal["unit", "document"] = "unit"
    """Whose sentences share a forward pass. Sentences that share one move each other's
    probabilities by some 1e-6. With `document` those depend on the document alone, so that an
    incremental run writes the bytes of a full one, at the price of smaller batches."""

    device: Annotated[Literal["auto", "cpu", "cuda"], Decides(None)] = "auto"
    """auto: a GPU where there is one."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on GPU, float32 on CPU, and in a run by whether it asks for GPUs, the same on
    every node. On a CPU with avx512_bf16, bfloat16 read 1.7 times as many words a second, and F1 on
    CoNLL03 dev moved by 0.02 points (`benchmarks/recognize.py`)."""

    num_threads: Annotated[int, Decides(None)] = Field(0, ge=0)
    """CPU threads of one encoder actor; 0 leaves it to torch."""

    dropout_samples: int = Field(8, ge=2)
    """Passes of mc_dropout."""

    dropout_scope: Literal["head", "encoder"] = "head"
    """Where mc_dropout drops: in the span head, or in the whole model, which costs a further pass
    through the encoder for each sample."""

    seed: int = 0
    """Of mc_dropout."""

    def with_dtype(self, gpus: float) -> Self:
        """The same with what `dtype = auto` means where an encoder is given so many GPUs."""
        if self.dtype != "auto":
            return self
        on_gpu = self.device == "cuda" or (self.device == "auto" and gpus > 0)
        return self.model_copy(update={"dtype": "bfloat16" if on_gpu else "float32"})


class RoutingConfig(Config):
    """Which candidates go to the LLM."""

    decides: ClassVar[Step | None] = "routing"

    threshold: float = Field(0.1, ge=0, le=1)
    """Uncertainty from which a candidate goes to the LLM; 0 sends every one, up to a budget."""

    threshold_for: Annotated[str | None, Decides(None)] = None
    """Instead of a number, one that dev chose and the checkpoint keeps: "asked=5%", which asks that
    share of dev's candidates; "risk=2%", which leaves that share of wrong ones among dev's labels
    that stay local."""

    link: Annotated[str | None, Decides(None)] = None
    """File that `linkner link` made for this checkpoint and this LLM, local or with a scheme.
    With it the LLM is asked in the order of what an answer is expected to gain, and its answers
    count as dev showed that they should; `threshold` says nothing then. It also says how to ask
    where `llm.answer_form` is auto and keys of `llm.demonstrations` are not set."""

    min_gain: float = Field(0.01, gt=0)
    """Least expected gain of a question under a link, in entities put right: 0.01 asks 100
    questions for one entity."""

    route_near_misses: bool = True
    """Whether near misses are asked about, from the same threshold; they enter the output only
    by the LLM's word."""

    per_name: int | None = Field(1, ge=1)
    """Questions about the same words of one document, the most uncertain first; the answer that
    most of them get decides the others, as route `same_name`. null asks about each."""

    never_ask: tuple[str, ...] = ()
    """Candidates with these local labels are never asked about: labels for which the LLM is no
    help."""

    budget: str | int | float | None = None
    """Most candidates that may be asked about, audited ones included: a share of them ("5%"), a
    number for the run ("20000 calls"), or seconds of engine time ("3600 s"). Each unit asks its
    most uncertain ones first, from the threshold up; the rest stays local and is counted."""

    requests_per_s: float | None = Field(None, gt=0)
    """Requests that one engine answers in a second; turns a budget in seconds into calls."""

    audit_share: float = Field(0.0, ge=0, le=1)
    """Share of the certain predicted candidates that is asked about too, to see what asking would
    do; the answers change nothing."""

    seed: int = 0
    """Of the choice of what is audited."""

    @field_validator("threshold_for")
    @classmethod
    def _names_a_threshold(cls, name: str | None) -> str | None:
        if name is not None:
            parse_threshold_name(name)
        return name

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if self.threshold_for is not None and "threshold" in self.model_fields_set:
            raise ValueError(
                f"routing.threshold = {self.threshold:g} and routing.threshold_for = "
                f"'{self.threshold_for}' both say who is asked; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _one_policy(self) -> Self:
        if self.link is not None and {"threshold", "threshold_for"} & self.model_fields_set:
            raise ValueError(
                f"routing.link = '{self.link}' says who is asked, so routing.threshold and "
                "routing.threshold_for say nothing; leave out one or the other"
            )
        return self

    @model_validator(mode="after")
    def _budget_can_be_read(self) -> Self:
        if self.budget is None:
            return self
        if parse_budget(self.budget).unit == "seconds" and self.requests_per_s is None:
            raise ValueError(
                f"routing.budget = '{self.budget}' needs routing.requests_per_s, what one engine "
                "answers in a second; `linkner estimate` measures it, or give a number of calls"
            )
        return self

    @property
    def max_share(self) -> Fraction | None:
        """Budget as a share of candidates; None for another budget or none."""
        budget = None if self.budget is None else parse_budget(self.budget)
        return budget.amount if budget is not None and budget.unit == "share" else None

    @property
    def max_calls(self) -> int | None:
        """Budget as a number of calls of the run; None for a share or no budget."""
        budget = None if self.budget is None else parse_budget(self.budget)
        if budget is None or budget.unit == "share":
            return None
        if budget.unit == "calls":
            return int(budget.amount)
        return int(budget.amount * Fraction(str(self.requests_per_s)))

    def check_labels(self, known: Sequence[str]) -> None:
        """Check that the labels of `never_ask` exist.

        Raises:
            ConfigError: If one does not; names those that do.
        """
        unknown = [label for label in self.never_ask if label not in known]
        if unknown:
            raise ConfigError(
                f"routing.never_ask names {unknown}, labels of the checkpoint are {list(known)}; "
                "name some of these"
            )
