"""A threshold that a config names becomes the number that the checkpoint keeps under it."""

from typing import TypeVar

from linkner_ray.config import EvaluateConfig, ExtractConfig, RecognizeConfig, RoutingConfig
from linkner_ray.errors import ConfigError
from linkner_ray.spanner.calibration.thresholds import THRESHOLDS, Thresholds
from linkner_ray.spanner.checkpoint import local_checkpoint

JobConfig = TypeVar("JobConfig", ExtractConfig, EvaluateConfig)


def with_threshold(config: JobConfig) -> JobConfig:
    """A job's config with a number for `routing.threshold`, whether it named one or not.

    Raises:
        ConfigError: If the checkpoint keeps no such threshold.
    """
    routing = resolved_routing(config.routing, config.recognize)
    return config.model_copy(update={"routing": routing})


def resolved_routing(routing: RoutingConfig, recognize: RecognizeConfig) -> RoutingConfig:
    """The same for the parts of a config.

    Raises:
        ConfigError: If the checkpoint keeps no such threshold, or keeps it for other dropout.
        StartupError: If what it keeps is damaged.
    """
    if routing.threshold_for is None:
        return routing
    _check_dropout(routing.threshold_for, recognize)
    kept = Thresholds.read(local_checkpoint(recognize.checkpoint))
    if kept is None:
        raise ConfigError(
            f"routing.threshold_for = '{routing.threshold_for}', but {recognize.checkpoint} has no "
            f"{THRESHOLDS}; `linkner calibrate {recognize.checkpoint} DEV` makes it"
        )
    found = kept.find(routing.threshold_for, recognize.uncertainty)
    return routing.model_copy(update={"threshold": found, "threshold_for": None})


def _check_dropout(name: str, recognize: RecognizeConfig) -> None:
    """Samples of another kind have uncertainties of another size."""
    made = RecognizeConfig()
    keys = ("dropout_scope", "dropout_samples")
    others = [key for key in keys if getattr(recognize, key) != getattr(made, key)]
    if recognize.uncertainty == "mc_dropout" and others:
        found = ", ".join(f"recognize.{key} = {getattr(recognize, key)}" for key in others)
        wanted = ", ".join(f"{key} = {getattr(made, key)}" for key in others)
        raise ConfigError(
            f"routing.threshold_for = '{name}' was chosen with {wanted}, but {found}; leave that "
            "out, or set routing.threshold"
        )
