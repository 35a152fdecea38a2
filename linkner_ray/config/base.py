"""What all parts of a config have in common."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from linkner_ray.errors import hide_secrets

FILE_NAME = r"^[^/\\.][^/\\]*$"
"""Pattern of what becomes the name of a file or a folder."""

CorpusFormatName = Literal["auto", "conll", "spanner_json", "hugging_face"]
"""How a labelled corpus is written; `auto` looks at the file."""

Step = Literal["documents", "sentences", "encoder", "calibration", "routing", "llm"]
"""What a key may decide, in the order of the pipeline. `documents`: how documents are read, put
into units and kept; this changes nothing about a given text."""


@dataclass(frozen=True, slots=True)
class Decides:
    """Mark of a key that decides another step than its section, or none."""

    step: Step | None


class Config(BaseModel):
    """Base of all parts: frozen; an unknown key and a number without end are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    decides: ClassVar[Step | None] = None
    """Step whose result a key of the section changes, unless the key is marked by `Decides`; None:
    no byte of an output depends on it."""

    def shown(self) -> dict[str, Any]:
        """Values for readers and records, as JSON; secrets in URLs are cut."""
        return {key: _hide(value) for key, value in self.model_dump(mode="json").items()}

    @classmethod
    def steps_by_key(cls) -> dict[str, Step]:
        """Dotted name of each key that decides a step, with the step."""
        found: dict[str, Step] = {}
        for name, field in cls.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, Config):
                found |= {f"{name}.{key}": step for key, step in kind.steps_by_key().items()}
                continue
            marks = [mark.step for mark in field.metadata if isinstance(mark, Decides)]
            step = marks[0] if marks else cls.decides
            if step is not None:
                found[name] = step
        return found

    def deciding(self) -> dict[str, Any]:
        """Values of the keys that decide a step, as a tree of sections."""
        values = self.model_dump(mode="json")
        tree: dict[str, Any] = {}
        for dotted in self.steps_by_key():
            *sections, key = dotted.split(".")
            branch, value = tree, values
            for section in sections:
                branch, value = branch.setdefault(section, {}), value[section]
            branch[key] = value[key]
        return tree


def check_gpus(key: str, gpus: float) -> None:
    """Check that Ray can give an actor so many GPUs: a part of one, or whole ones.

    Raises:
        ValueError: If it cannot.
    """
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(
            f"{key} = {gpus:g}: Ray gives an actor a part of one GPU or whole ones; set "
            f"{math.ceil(gpus)}"
        )


def _hide(value: Any) -> Any:  # noqa: ANN401 - a JSON tree
    match value:
        case str():
            return hide_secrets(value)
        case dict():
            return {key: _hide(part) for key, part in value.items()}
        case list():
            return [_hide(part) for part in value]
    return value
