"""The jobs that send documents through the stages, and what they take from a cluster."""

import re
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from linkner_ray.config.base import FILE_NAME, Config, CorpusFormatName, check_gpus
from linkner_ray.config.data import (
    AnswerErrorsConfig,
    ErrorsConfig,
    InputConfig,
    LoggingConfig,
    OutputConfig,
    SentencesConfig,
)
from linkner_ray.config.llm import CacheConfig, LlmConfig, check_replay
from linkner_ray.config.local import RecognizeConfig, RoutingConfig, Uncertainty


class ResourcesConfig(Config):
    """What the run takes from the cluster; fractions are shares of one CPU or GPU."""

    read_cpus: float = Field(0.4, gt=0)
    """Other than `encoder_cpus`, or Ray makes the two one step and encoders do the reading."""

    write_cpus: float = Field(0.3, gt=0)
    """Of a task that writes one unit."""

    encoder_actors: int = Field(1, ge=1)
    """Actors that read with the local model, each with a copy of it."""

    max_encoder_actors: int | None = Field(None, ge=1)
    """Encoder actors grow up to this many; default: fixed at `encoder_actors`."""

    encoder_cpus: float = Field(0.5, ge=0)
    """Of one encoder actor."""

    encoder_gpus: float = Field(0.0, ge=0)
    """Of one encoder actor; 0.5 puts two on a GPU."""

    llm_actors: int = Field(1, ge=1)
    """Actors that ask the LLM, each with an engine of its own or a client of the endpoint."""

    llm_cpus: float = Field(0.5, ge=0)
    """Of one LLM actor."""

    llm_gpus: float = Field(0.0, ge=0)
    """GPUs of one engine: at least `llm.tensor_parallel_size` on a machine that has GPUs."""

    llm_concurrent_units: int = Field(4, ge=1)
    """Units whose questions are under way at once in one LLM actor."""

    startup_timeout_s: float = Field(900.0, gt=0)
    """Time in which the first actors must have loaded their models."""

    check: bool = True
    """Compare the plan with the cluster before starting; switch off where nodes come on demand."""

    @model_validator(mode="after")
    def _ray_can_give_it(self) -> Self:
        check_gpus("resources.encoder_gpus", self.encoder_gpus)
        check_gpus("resources.llm_gpus", self.llm_gpus)
        if self.max_encoder_actors is not None and self.max_encoder_actors < self.encoder_actors:
            raise ValueError(
                f"resources.max_encoder_actors = {self.max_encoder_actors} is below "
                f"resources.encoder_actors = {self.encoder_actors}, with which a run "
                "begins; raise it"
            )
        return self


def check_engine_gpus(llm: LlmConfig, resources: ResourcesConfig) -> None:
    """Check that what an engine wants of GPUs is what Ray gives it.

    Raises:
        ValueError: If its model is spread over more GPUs than it gets, or it would fill more of a
            shared GPU than its part.
    """
    gpus, parts = resources.llm_gpus, llm.tensor_parallel_size
    if llm.backend != "vllm" or not gpus:
        return
    if parts > 1 and gpus < parts:
        raise ValueError(
            f"llm.tensor_parallel_size = {parts} spreads a model over that many GPUs of one node, "
            f"and resources.llm_gpus = {gpus:g}; set resources.llm_gpus={parts}"
        )
    if gpus < 1 and llm.gpu_memory_utilization > gpus:
        raise ValueError(
            f"llm.gpu_memory_utilization = {llm.gpu_memory_utilization:g} is a share of a whole "
            f"GPU's memory, and resources.llm_gpus = {gpus:g} shares that GPU with other actors; "
            f"set llm.gpu_memory_utilization={0.9 * gpus:.3g}, or resources.llm_gpus=1"
        )


class ExtractConfig(Config):
    """`jobs/extract.py`: documents in, entities out."""

    input: InputConfig
    output: OutputConfig
    sentences: SentencesConfig = SentencesConfig()
    recognize: RecognizeConfig
    routing: RoutingConfig = RoutingConfig()
    llm: LlmConfig
    cache: CacheConfig = CacheConfig()
    errors: ErrorsConfig = ErrorsConfig()
    resources: ResourcesConfig = ResourcesConfig()
    logging: LoggingConfig = LoggingConfig()

    @model_validator(mode="after")
    def _llm_can_work(self) -> Self:
        check_replay(self.llm, self.cache)
        check_engine_gpus(self.llm, self.resources)
        return self


_SET = re.compile(
    r"(?P<name>[^=/:]+)=(?P<path>.+?)"
    r"(:(?P<format>auto|conll|spanner_json|hugging_face)(:(?P<label_map>.+))?)?"
)


class EvaluateSet(Config):
    """One labelled set to score on; in a config also as `name=path[:format[:label_map]]`."""

    name: str = Field(pattern=FILE_NAME)
    """What its files and tables are called."""

    path: str
    """File of the set."""

    format: CorpusFormatName = "auto"
    """Format of the file; auto goes by its content."""

    label_map: str | None = None
    """What the set's labels are called in the checkpoint: a shipped map such as
    `wnut17_to_conll03`, or a YAML file. Needed where they differ."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:  # noqa: ANN401 - as pydantic gives it
        if not isinstance(value, str):
            return value
        parts = _SET.fullmatch(value)
        if parts is None:
            raise ValueError(
                f"'{value}' is no labelled set; expected NAME=PATH, NAME=PATH:FORMAT or "
                "NAME=PATH:FORMAT:LABEL_MAP, such as test=wnut17.conll:auto:wnut17_to_conll03"
            )
        return {name: part for name, part in parts.groupdict().items() if part is not None}


class StudyConfig(Config):
    """What an evaluation tries beside the run as configured. Gold decides none of it."""

    estimates: tuple[Uncertainty, ...] = ()
    """Further estimates of uncertainty to route by, each a pass of the encoder. Those that the
    checkpoint cannot give are left out, and the report says so."""

    shares: tuple[float, ...] = Field((0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0), min_length=1)
    """Shares of a set's candidates that are asked about, the most uncertain first."""

    ask_all: bool = False
    """Whether every candidate is put to the LLM, one question each. Without, only what the run
    itself asks is known, and a share that needs more answers than that is left out."""

    dev_percent: Literal[1, 2, 5, 10, 20, 50, 100] = 10
    """Of the checkpoint's thresholds the one that asks so many percent of dev's candidates."""

    random_routers: int = Field(5, ge=1)
    """Random orders of the candidates, whose mean is the bound from below."""

    resamples: int = Field(1000, ge=100)
    """Draws of the bootstrap behind each interval."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.shares) != sorted({min(max(share, 0.0), 1.0) for share in self.shares}):
            raise ValueError(
                f"study.shares = {self.shares} are not ascending shares in [0, 1]; write such as "
                "[0, 0.05, 1]"
            )
        return self


class EvaluateConfig(Config):
    """`jobs/evaluate.py`: labelled sets through the same stages, then scores."""

    sets: tuple[EvaluateSet, ...] = Field(min_length=1)
    """Labelled sets; the others are held against the first as text of another kind."""

    output: OutputConfig
    recognize: RecognizeConfig
    routing: RoutingConfig = RoutingConfig()
    llm: LlmConfig
    cache: CacheConfig = CacheConfig()
    study: StudyConfig = StudyConfig()
    errors: AnswerErrorsConfig = AnswerErrorsConfig()
    resources: ResourcesConfig = ResourcesConfig()
    unit_sentences: int = Field(512, ge=1)
    """Sentences in a unit of work."""

    @model_validator(mode="after")
    def _llm_can_work(self) -> Self:
        check_replay(self.llm, self.cache)
        check_engine_gpus(self.llm, self.resources)
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [one.name for one in self.sets]
        if len(set(names)) < len(names):
            raise ValueError(f"sets are called {names}; give each a name of its own")
        return self


class LinkConfig(Config):
    """`linkner link`: a checkpoint and an LLM, measured together on a labelled set."""

    dev: EvaluateSet
    """The set; best the one that the checkpoint was calibrated on, and none of its training."""

    output: str
    """File of the link, for `routing.link`."""

    recognize: RecognizeConfig
    llm: LlmConfig
    cache: CacheConfig = CacheConfig()
    questions: int = Field(1000, ge=50)
    """Candidates that are asked about, or a few more: those of whole sentences, drawn by `seed`."""

    seed: int = 0
    """Of the draw."""

    @model_validator(mode="after")
    def _llm_can_work(self) -> Self:
        check_replay(self.llm, self.cache)
        if self.llm.backend == "none":
            raise ValueError("llm.backend = none asks nobody; a link is one with an LLM; name one")
        return self
