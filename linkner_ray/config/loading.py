"""Reading a config: a YAML file, environment variables, dotted overrides."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from linkner_ray.config import Config
from linkner_ray.config.old_names import REMOVED, RENAMED_KEYS
from linkner_ray.errors import ConfigError

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
        overrides: Such as `routing.threshold=0.3`; values are YAML.
        environment: Where variables are looked up.

    Raises:
        ConfigError: For an unreadable file, an unknown key (naming the nearest known one), a
            wrong value, or a variable that is not set.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: is not YAML: {error}") from error
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}: expected a mapping at the top, found {type(tree).__name__}")
    for override in overrides:
        _apply_override(tree, override)
    try:
        return kind.model_validate(_expand(tree, environment))
    except ValidationError as error:
        raise ConfigError(_describe(error, kind, path or "command line")) from error


def _apply_override(tree: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise ConfigError(
            f"override '{override}': expected KEY=VALUE, such as routing.threshold=0.3"
        )
    *parents, leaf = name.split(".")
    for parent in parents:
        branch = tree.setdefault(parent, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"override '{override}': '{parent}' holds a value, not a section")
        tree = branch
    try:
        tree[leaf] = yaml.safe_load(value) if value else ""
    except yaml.YAMLError as error:
        raise ConfigError(f"override '{override}': the value is not YAML: {error}") from error


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


def _describe(error: ValidationError, kind: type[Config], where: str) -> str:
    lines = []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        name = ".".join(location) or "config"
        key = ".".join(part for part in location if not part.isdecimal())  # of a list, not its item
        if problem["type"] == "extra_forbidden" and key in REMOVED:
            lines.append(f"{where}: '{name}' was removed; {REMOVED[key]}")
        elif problem["type"] == "extra_forbidden" and key in RENAMED_KEYS:
            lines.append(f"{where}: '{name}' is called '{RENAMED_KEYS[key]}' now")
        elif problem["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key '{name}'{_nearest(kind, location)}")
        elif f"{key}={problem['input']}" in REMOVED:
            instead = REMOVED[f"{key}={problem['input']}"]
            lines.append(f"{where}: {name} = '{problem['input']}' was removed; {instead}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {name}: {message}")
    return "\n".join(lines)


def _nearest(kind: type[Config], location: list[str]) -> str:
    known = dict(_keys(kind))
    parent = ".".join(location[:-1])
    siblings = [key for key in known if key.rpartition(".")[0] == parent]
    close = difflib.get_close_matches(location[-1], [s.rpartition(".")[2] for s in siblings], 1)
    if close:
        return f"; did you mean '{'.'.join([*location[:-1], close[0]])}'?"
    same_leaf = [key for key in known if key.rpartition(".")[2] == location[-1]]
    if same_leaf:
        return f"; did you mean '{same_leaf[0]}'?"
    return f"; known here: {', '.join(siblings)}"


def _keys(kind: type[BaseModel], prefix: str = "") -> list[tuple[str, Any]]:
    """Every dotted key of a config class, sections before what is in them."""
    keys: list[tuple[str, Any]] = []
    for name, field in kind.model_fields.items():
        keys.append((prefix + name, field))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys.extend(_keys(field.annotation, f"{prefix}{name}."))
    return keys
