"""Label sets and the maps between them.

A label set is the entity types of a corpus, with the words an LLM is shown for them. A label map
turns the gold of one set into the labels of another, for a corpus whose labels differ from the
checkpoint's.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from linkner_ray.config.validation import validate
from linkner_ray.config.yaml_text import read_yaml_file
from linkner_ray.errors import ConfigError

NON_ENTITY = "O"
"""Class 0 of every model and the verdict "not an entity"."""

_TAKEN = {
    NON_ENTITY: "the non-entity class",
    "source_local": "what a run counts the local model's entities by",
    "source_llm": "what a run counts the LLM's entities by",
    "source_same_name": "what a run counts the entities of the same names by",
}
"""Names that no label can have, with what has them."""


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
                raise ValueError(f"{kind} given twice: {', '.join(twice)}; keep one of each")
        for taken in _TAKEN.keys() & {*ids}:
            raise ValueError(
                f"'{taken}' is {_TAKEN[taken]} and cannot be a label id; choose another"
            )
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMap:
    """What each label of one set is called in another."""

    name: str
    source: LabelSet
    """Labels of the corpus."""

    target: LabelSet
    """Labels of the checkpoint."""

    targets: Mapping[str, str | None]
    """Target of every source label, in the order of `source`; None for a dropped label.

    Dropped means that the target set would not mark such an entity: it leaves gold, nobody is asked
    to find it, and an entity predicted there counts as spurious."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """Source labels without a target."""
        return tuple(source for source, target in self.targets.items() if target is None)


class _LabelMapFile(BaseModel):
    """A label map as it stands in YAML; sets are named or given by their own files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    source: str = Field(alias="from")
    target: str = Field(alias="to")
    targets: dict[str, str | None] = Field(alias="map")


_File = TypeVar("_File", bound=BaseModel)


def shipped_label_sets() -> tuple[str, ...]:
    """Names of the label sets that ship with the package."""
    return _shipped("label_sets")


def load_label_set(name_or_path: str) -> LabelSet:
    """Load a label set that ships with the package by name, or any other by its YAML file.

    Raises:
        ConfigError: If there is no such set, or the file is not a valid one.
    """
    return _read(name_or_path, LabelSet, folder="label_sets")


def load_label_map(name_or_path: str) -> LabelMap:
    """Load a label map that ships with the package by name, or any other by its YAML file.

    The file has four keys: `name`, `from` and `to` (label sets as `load_label_set` takes them), and
    `map`, which gives every label of `from` the id of one of `to`, or null to drop it.

    Raises:
        ConfigError: If there is no such map or label set, a label of `from` is missing or mapped
            twice, or a label is mapped that either set lacks.
    """
    where = f"label map {name_or_path}"
    file = _read(name_or_path, _LabelMapFile, folder="label_maps")
    source, target = load_label_set(file.source), load_label_set(file.target)
    unknown_sources = [label for label in file.targets if label not in source.ids]
    unknown_targets = [
        f"{label} -> {goal}"
        for label, goal in file.targets.items()
        if goal is not None and goal not in target.ids
    ]
    missing = [label for label in source.ids if label not in file.targets]
    for problem, labels, way_out in (
        (f"not a label of '{source.name}'", unknown_sources, f"known: {', '.join(source.ids)}"),
        (
            f"target not a label of '{target.name}'",
            unknown_targets,
            f"known: {', '.join(target.ids)}",
        ),
        (f"label of '{source.name}' not mapped", missing, "give each a target, or null to drop it"),
    ):
        if labels:
            raise ConfigError(f"{where}: {problem}: {', '.join(labels)}; {way_out}")
    return LabelMap(
        name=file.name,
        source=source,
        target=target,
        targets={label: file.targets[label] for label in source.ids},
    )


def _shipped(folder: str) -> tuple[str, ...]:
    entries = (resources.files("linkner_ray") / folder).iterdir()
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in entries))


def _read(name_or_path: str, kind: type[_File], *, folder: str) -> _File:
    """What a file of the package says, by name, or any other by its path."""
    known = _shipped(folder)
    what = folder.removesuffix("s").replace("_", " ")
    path = Path(name_or_path)
    if name_or_path in known:
        path = Path(str(resources.files("linkner_ray") / folder / f"{name_or_path}.yaml"))
    elif not path.is_file():
        raise ConfigError(
            f"{what} '{name_or_path}' is neither a file nor one of: {', '.join(known)}"
        )
    name = f"{what} {name_or_path}"
    return validate(kind, read_yaml_file(path, name), name)
