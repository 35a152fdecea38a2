"""Configuration: one frozen class a part; `config.loading` reads them.

A part of the program is given its own piece, never the whole.
"""

from linkner_ray.config.base import Config
from linkner_ray.config.data import (
    ErrorsConfig,
    InputConfig,
    LoggingConfig,
    OutputConfig,
    SentencesConfig,
)
from linkner_ray.config.jobs import (
    EvaluateConfig,
    EvaluateSet,
    ExtractConfig,
    LinkConfig,
    ResourcesConfig,
    StudyConfig,
)
from linkner_ray.config.llm import (
    CacheConfig,
    DemonstrationsConfig,
    LlmConfig,
    check_replay,
)
from linkner_ray.config.local import RecognizeConfig, RoutingConfig, Uncertainty
from linkner_ray.config.nightly import DriftConfig, NightConfig, NightlyConfig
from linkner_ray.config.training import (
    CorpusConfig,
    ModelConfig,
    TrainConfig,
    TrainingConfig,
    TrainOutputConfig,
    WorkersConfig,
)

__all__ = [
    "CacheConfig",
    "Config",
    "CorpusConfig",
    "DemonstrationsConfig",
    "DriftConfig",
    "ErrorsConfig",
    "EvaluateConfig",
    "EvaluateSet",
    "ExtractConfig",
    "InputConfig",
    "LinkConfig",
    "LlmConfig",
    "LoggingConfig",
    "ModelConfig",
    "NightConfig",
    "NightlyConfig",
    "OutputConfig",
    "RecognizeConfig",
    "ResourcesConfig",
    "RoutingConfig",
    "SentencesConfig",
    "StudyConfig",
    "TrainConfig",
    "TrainOutputConfig",
    "TrainingConfig",
    "Uncertainty",
    "WorkersConfig",
    "check_replay",
]
