"""`jobs/nightly.py`: a night of extraction, its limits, and what keeps it from being published."""

from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from linkner_ray.config.base import Config
from linkner_ray.config.jobs import ExtractConfig


class NightConfig(Config):
    """One night."""

    name: date
    """The date of the night, such as 2026-11-23; its folder under `output.path` is called so."""

    sample_documents: int = Field(200, ge=1)
    """Documents that the estimate before the start looks at."""

    max_questions: int | None = Field(None, ge=0)
    """Most questions that the estimate may foresee; a night that would ask more is not started.
    The estimate counts every document as new, so a night never asks more than it says."""

    max_llm_hours: float | None = Field(None, gt=0)
    """The same in hours of all engines at work together; needs `routing.requests_per_s`."""

    max_encoder_hours: float | None = Field(None, gt=0)
    """The same in hours of all encoder actors, each at the speed of the driver."""

    trust_code: bool = False
    """Reuse what other code or libraries found, too."""

    accept_drift: bool = False
    """Publish the night whatever its drift, once a person has looked at it."""


class DriftConfig(Config):
    """How far a night may differ from the published one before it."""

    warn: float = Field(0.1, gt=0)
    """Population stability index from which a difference is reported."""

    alert: float = Field(0.25, gt=0)
    """From here on the night is not published; 0.1 and 0.25 are the customary bounds (Siddiqi
    2006)."""

    min_count: int = Field(1000, ge=1)
    """Candidates (for labels: entities) that both nights must have for a verdict. Where nothing has
    changed, an index over B bins is (B - 1)(1/n + 1/m) on average: 0.038 over the 20 bins of
    uncertainty and 1,000 candidates in each night, 0.19 over 200."""

    hosts: int = Field(20, ge=0)
    """Hosts that are looked at one by one: those with most documents tonight."""

    languages: int = Field(20, ge=0)
    """Languages, likewise."""

    gate: Literal["any", "overall"] = "any"
    """Which alerts keep a night back: those of any host and language too, or of the whole alone."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.warn > self.alert:
            raise ValueError(
                f"drift.warn = {self.warn:g} is above drift.alert = {self.alert:g}; lower it"
            )
        return self


class NightlyConfig(ExtractConfig):
    """An extraction whose `output.path` is the folder of all nights."""

    night: NightConfig
    drift: DriftConfig = DriftConfig()

    @model_validator(mode="after")
    def _can_follow(self) -> Self:
        if not self.output.keep_candidates:
            raise ValueError(
                "each night reuses the candidates of the one before; set "
                "output.keep_candidates = true"
            )
        if self.night.max_llm_hours is not None and self.routing.requests_per_s is None:
            raise ValueError(
                "night.max_llm_hours needs routing.requests_per_s, what one engine answers in a "
                "second; `linkner estimate --measure-llm` measures it"
            )
        return self

    def extraction(self) -> ExtractConfig:
        """The extraction of this night, into a folder of its own."""
        # Unset keys stay unset: a threshold by number and one by name exclude each other.
        tree = self.model_dump(exclude={"night", "drift"}, exclude_unset=True)
        tree["output"]["path"] = self.folder_of(self.night.name)
        return ExtractConfig.model_validate(tree)

    def folder_of(self, night: date) -> str:
        """Where a night is, this one or another."""
        return f"{self.output.path.rstrip('/')}/{night.isoformat()}"
