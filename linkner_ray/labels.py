"""Label sets: the entity types of a corpus, with the words an LLM is shown for them."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from linkner_ray.errors import ConfigError

NON_ENTITY = "O"
"""Class 0 of every model and the verdict "not an entity"."""


class Label(BaseModel):
    """One entity type."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    """As it stands in corpora and in the output, such as `PER`."""

    name: str = Field(min_length=1)
    """As an LLM reads it, such as `person`."""

    description: str = Field(min_length=1)
    """One sentence: what counts, and what does not."""


class LabelSet(BaseModel):
    """The entity types a model tells apart, in a fixed order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    labels: tuple[Label, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        ids = [label.id for label in self.labels]
        names = [label.name.casefold() for label in self.labels]
        for kind, values in (("id", ids), ("name", names)):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{kind} given twice: {', '.join(twice)}")
        if NON_ENTITY in ids:
            raise ValueError(f"'{NON_ENTITY}' is the non-entity class and cannot be a label id")
        return self

    @property
    def ids(self) -> tuple[str, ...]:
        """Label ids in order, without the non-entity class."""
        return tuple(label.id for label in self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of every probability vector: non-entity first."""
        return (NON_ENTITY, *self.ids)

    @property
    def digest(self) -> str:
        """Name of the content: changes with any id, name or description."""
        canonical = json.dumps(self.model_dump(), sort_keys=True, ensure_ascii=False)
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def load_label_set(name_or_path: str) -> LabelSet:
    """Load a label set that ships with the package by name, or any other by its YAML file.

    Raises:
        ConfigError: If there is no such set, or the file is not a valid one.
    """
    shipped = resources.files("linkner_ray") / "label_sets"
    known = sorted(entry.name.removesuffix(".yaml") for entry in shipped.iterdir())
    if name_or_path in known:
        text = (shipped / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    elif Path(name_or_path).is_file():
        text = Path(name_or_path).read_text(encoding="utf-8")
    else:
        raise ConfigError(
            f"label set '{name_or_path}' is neither a file nor one of: {', '.join(known)}"
        )
    try:
        return LabelSet.model_validate(yaml.safe_load(text))
    except (ValidationError, yaml.YAMLError) as error:
        raise ConfigError(f"label set {name_or_path}: {error}") from error
