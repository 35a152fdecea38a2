"""The jobs that send documents through the stages, and what they take from a cluster."""

from typing import Literal, Self

from pydantic import Field, model_validator

from linkner_ray.config.base import Config
from linkner_ray.config.data import (
    ErrorsConfig,
    InputConfig,
    LoggingConfig,
    OutputConfig,
    SentencesConfig,
)
from linkner_ray.config.llm import FusionConfig, LedgerConfig, LlmConfig, check_replay
from linkner_ray.config.local import RecognizeConfig, RoutingConfig


class ResourcesConfig(Config):
    """What the run takes from the cluster; fractions are shares of one CPU or GPU."""

    read_cpus: float = Field(0.4, gt=0)
    """Other than `encoder_cpus`, or Ray makes the two one step and encoders do the reading."""

    write_cpus: float = Field(0.3, gt=0)
    encoder_actors: int = Field(1, ge=1)
    max_encoder_actors: int | None = None
    """Encoder actors grow up to this many; default: fixed at `encoder_actors`."""

    encoder_cpus: float = Field(0.5, ge=0)
    encoder_gpus: float = Field(0.0, ge=0)
    llm_actors: int = Field(1, ge=1)
    llm_cpus: float = Field(0.5, ge=0)
    llm_gpus: float = Field(0.0, ge=0)
    """GPUs of one engine: at least `llm.tensor_parallel_size` on a machine that has GPUs."""

    llm_concurrent_units: int = Field(4, ge=1)
    """Units whose questions are under way at once in one LLM actor."""

    startup_timeout_s: float = Field(900.0, gt=0)
    """Time in which the first actors must have loaded their models."""

    check: bool = True
    """Compare the plan with the cluster before starting; switch off where nodes come on demand."""


class ExtractConfig(Config):
    """`jobs/extract.py`: documents in, entities out."""

    input: InputConfig
    output: OutputConfig
    sentences: SentencesConfig = SentencesConfig()
    recognize: RecognizeConfig
    routing: RoutingConfig = RoutingConfig()
    llm: LlmConfig
    ledger: LedgerConfig = LedgerConfig()
    fusion: FusionConfig = FusionConfig()
    errors: ErrorsConfig = ErrorsConfig()
    resources: ResourcesConfig = ResourcesConfig()
    logging: LoggingConfig = LoggingConfig()

    @model_validator(mode="after")
    def _replayable(self) -> Self:
        check_replay(self.llm, self.ledger)
        return self


class EvaluateSet(Config):
    """One labelled set to score on."""

    name: str
    path: str
    format: Literal["auto", "conll", "spanner_json"] = "auto"


class EvaluateConfig(Config):
    """`jobs/evaluate.py`: labelled sets through the same stages, then scores."""

    sets: tuple[EvaluateSet, ...] = Field(min_length=1)
    output: OutputConfig
    recognize: RecognizeConfig
    routing: RoutingConfig = RoutingConfig()
    llm: LlmConfig
    ledger: LedgerConfig = LedgerConfig()
    fusion: FusionConfig = FusionConfig()
    resources: ResourcesConfig = ResourcesConfig()
    unit_sentences: int = Field(512, ge=1)

    @model_validator(mode="after")
    def _replayable(self) -> Self:
        check_replay(self.llm, self.ledger)
        return self
