"""YAML as users write it: no key twice, and every value with its place and its letters.

YAML reads `NO` as false, `1.10` as 1.1 and `2026-11-23` as a date. Where text belongs, the letters
that were written are what is meant; `config.validation` takes them from here.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from linkner_ray.errors import ConfigError

Place = tuple[str | int, ...]
"""Keys and positions in lists from the top of a tree to a value."""


@dataclass(slots=True)
class Written:
    """What a text says.

    Attributes:
        tree: Mappings, lists and values; every key is text, as it was written.
        where: The file, or the override, each value comes from.
        letters: The values that stand there without quotes, as they were written.
    """

    tree: Any = None
    where: dict[Place, str] = field(default_factory=dict)
    letters: dict[Place, str] = field(default_factory=dict)

    def where_is(self, place: Place, default: str) -> str:
        """Where a value, or the nearest section around it, was written; else `default`."""
        while place and place not in self.where:
            place = place[:-1]
        return self.where[place] if place else default

    def forget(self, place: Place) -> None:
        """Drop what is known of a value that another takes the place of."""
        for known in (self.where, self.letters):
            for other in [other for other in known if other[: len(place)] == place]:
                del known[other]


def read_yaml_file(path: Path, name: str | None = None) -> Written:
    """Read a file, which messages call `name` or else by its path.

    Raises:
        ConfigError: If it cannot be read, is not YAML, or has a key twice in one mapping.
    """
    name = name or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}; correct the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: cannot be read: {error}; save it as UTF-8") from error
    return read_yaml(text, name)


def read_yaml(text: str, name: str, *, with_lines: bool = True) -> Written:
    """Read a text; messages call it `name`, and name the line if there are several.

    Raises:
        ConfigError: If it is not YAML, or has a key twice in one mapping.
    """
    reader = _Reader(name, with_lines=with_lines)
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                reader.written.tree = reader.read(loader, node, (), frozenset())
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(_describe(error, name, with_lines=with_lines)) from error
    return reader.written


class _Reader:
    """Builds a tree from YAML nodes and notes where its values stand."""

    def __init__(self, name: str, *, with_lines: bool) -> None:
        self.written = Written()
        self._name = name
        self._with_lines = with_lines

    def read(
        self, loader: yaml.SafeLoader, node: yaml.Node, place: Place, around: frozenset[int]
    ) -> Any:  # noqa: ANN401 - any YAML value
        """The value of a node; `around` are the nodes that it is a part of."""
        self.written.where[place] = self._at(node)
        if id(node) in around:
            raise ConfigError(
                f"{self._at(node)}: an alias stands inside what it names; write what it stands for"
            )
        around |= {id(node)}
        match node:
            case yaml.MappingNode():
                self._refuse_repeated_keys(node)
                loader.flatten_mapping(node)
                return {
                    key.value: self.read(loader, value, (*place, key.value), around)
                    for key, value in node.value
                }
            case yaml.SequenceNode():
                return [
                    self.read(loader, one, (*place, index), around)
                    for index, one in enumerate(node.value)
                ]
            case yaml.ScalarNode(style=None):
                self.written.letters[place] = node.value
        return loader.construct_object(node)

    def _refuse_repeated_keys(self, node: yaml.MappingNode) -> None:
        first: dict[Hashable, yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(
                    f"{self._at(key)}: a key must be text, not a list or a mapping; quote it"
                )
            if key.value in first:
                raise ConfigError(
                    f"{self._at(key)}: key given twice: {key.value} (first in line "
                    f"{first[key.value].start_mark.line + 1}); put both into one"
                )
            first[key.value] = key

    def _at(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}" if self._with_lines else self._name


def _describe(error: yaml.YAMLError, name: str, *, with_lines: bool) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{name}: is not YAML: {error}"
    mark = error.problem_mark
    where = f"{name}:{mark.line + 1}" if mark is not None and with_lines else name
    advice = (
        "; text that begins with one of * & ! % @ ` or has ': ' or ' #' in it needs quotes"
        if not isinstance(error, yaml.constructor.ConstructorError)
        else ""
    )
    return f"{where}: is not YAML: {error.problem}{advice}"
