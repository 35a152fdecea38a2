"""Reading a config: a YAML file, environment variables, dotted overrides."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from linkner_ray.config import Config
from linkner_ray.config.validation import describe_value, validate
from linkner_ray.config.yaml_text import Place, Written, read_yaml, read_yaml_file
from linkner_ray.errors import ConfigError, refuse_bare_string

ConfigT = TypeVar("ConfigT", bound=Config)

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def load_config(
    kind: type[ConfigT],
    path: str | None,
    overrides: Sequence[str] = (),
    *,
    environment: Mapping[str, str] = os.environ,
) -> ConfigT:
    """Read a YAML file, fill in `${VARIABLE}` and `${VARIABLE:-default}`, apply dotted overrides.

    Args:
        kind: Class of the result.
        path: YAML file; None to build from overrides alone.
        overrides: Such as `routing.threshold=0.3`; values are YAML. A later one wins, and one that
            gives a section changes the keys that it names.
        environment: Where variables are looked up.

    Raises:
        ConfigError: For a file that cannot be read, a key that is unknown (naming the nearest known
            one) or given twice, a wrong value, or a variable that is not set.
    """
    refuse_bare_string("overrides", overrides)
    written = Written(tree={}) if path is None else read_yaml_file(Path(path))
    if written.tree is None:
        written.tree = {}
    if not isinstance(written.tree, dict):
        found = describe_value(written.tree)
        raise ConfigError(
            f"{path}: expected a mapping of keys at the top, found {found}; write lines such as "
            "routing: {threshold: 0.3}"
        )
    for override in overrides:
        _apply_override(written, override)
    written.tree = _expand(written.tree, environment)
    return validate(kind, written, path or "command line")


def _apply_override(written: Written, override: str) -> None:
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise ConfigError(
            f"override '{override}': expected KEY=VALUE, such as routing.threshold=0.3"
        )
    place: Place = tuple(name.split("."))
    given = read_yaml(value, f"override '{override}'", with_lines=False)
    if not value:
        given.tree = ""
    branch = written.tree
    for key in place[:-1]:
        if branch.get(key) is None:
            branch[key] = {}
        branch = branch[key]
        if not isinstance(branch, dict):
            raise ConfigError(
                f"override '{override}': '{key}' holds a value, not a section; leave out what "
                "follows it"
            )
    _merge(written, branch, place, given.tree)
    written.where |= {(*place, *below): where for below, where in given.where.items()}
    written.letters |= {(*place, *below): letters for below, letters in given.letters.items()}


def _merge(written: Written, branch: dict[Any, Any], place: Place, given: object) -> None:
    """Put a value into a section; of a section, only the keys that are given change."""
    key = place[-1]
    if isinstance(given, dict) and isinstance(branch.get(key), dict):
        for below, value in given.items():
            _merge(written, branch[key], (*place, below), value)
    else:
        branch[key] = given
        written.forget(place)


def _expand(node: Any, environment: Mapping[str, str]) -> Any:  # noqa: ANN401 - any YAML value
    if isinstance(node, dict):
        return {key: _expand(value, environment) for key, value in node.items()}
    if isinstance(node, list):
        return [_expand(value, environment) for value in node]
    if not isinstance(node, str):
        return node

    def replace(match: re.Match[str]) -> str:
        value = environment.get(match["name"]) or match["default"]
        if value is None:
            raise ConfigError(
                f"'{node}': environment variable {match['name']} is not set; set it or override "
                "the key"
            )
        return value

    return _VARIABLE.sub(replace, node)
