"""Values that users wrote, held against what belongs there; errors say what to write."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from linkner_ray.config.old_names import OLD_KEYS
from linkner_ray.config.yaml_text import Place, Written
from linkner_ray.errors import ConfigError

ModelT = TypeVar("ModelT", bound=BaseModel)

_WANTED: Mapping[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "date_type": "a date such as 2026-11-23",
    "date_from_datetime_parsing": "a date such as 2026-11-23",
    "date_parsing": "a date such as 2026-11-23",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a section",
    "model_type": "a section",
    "model_attributes_type": "a section",
    "literal_error": "{expected}",
    "too_short": "{min_length} item or more",
    "string_too_short": "text",
    "string_pattern_mismatch": "a name that has no / and begins with no dot",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "a number below {lt}",
    "less_than_equal": "{le} or less",
}
"""Kind of a wrong value to what belongs there instead."""

_TYPES = ("str", "int", "float", "bool")

_EMPTY_SECTION = ("model_type", "dict_type", "model_attributes_type")


def validate(kind: type[ModelT], written: Written, name: str, *, prefix: str = "") -> ModelT:
    """Make a tree of values an object of a class.

    Where text belongs, a value is taken as it was written: `NO` stays NO. A section that is empty
    has the defaults of its keys. Messages call the source `name`, and put `prefix` before keys.

    Raises:
        ConfigError: With a line for each problem: what was found, where, and what to write.
    """
    while True:
        try:
            result = kind.model_validate(written.tree)
            break
        except ValidationError as error:
            problems = error.errors()
            mended = [_mend(written, problem) for problem in problems]
            if not any(mended):
                lines = _describe(problems, kind, written, name, prefix)
                raise ConfigError("\n".join(lines)) from error
    _refuse_truth_as_number(result, written, name, prefix)
    return result


def _mend(written: Written, problem: ErrorDetails) -> bool:
    """Take a value as it was written if that is what belongs there; whether one was."""
    place, given = problem["loc"], problem["input"]
    instead: object
    if problem["type"] in _EMPTY_SECTION and given is None:
        instead = {}
    elif problem["type"] == "string_type" and place in written.letters and given is not None:
        instead = written.letters[place]
    else:
        return False
    try:
        section = _value_at(written.tree, place[:-1])
        if section[place[-1]] is not given:
            return False
        section[place[-1]] = instead
    except (KeyError, IndexError, TypeError):  # a place within a value that a class took apart
        return False
    return True


def _refuse_truth_as_number(result: BaseModel, written: Written, name: str, prefix: str) -> None:
    """Refuse true and false where a number belongs, which Python takes for 1 and 0."""
    for place, letters in written.letters.items():
        try:
            given, taken = _value_at(written.tree, place), _value_at(result, place)
        except (KeyError, IndexError, TypeError, AttributeError):  # another value stands there now
            continue
        if isinstance(given, bool) and isinstance(taken, (int, float)) and taken is not given:
            where, key = written.where_is(place, name), _key(place, prefix)
            found = describe_value(given, letters)
            raise ConfigError(f"{where}: {key}: expected a number, found {found}")


def _value_at(tree: Any, place: Sequence[str | int]) -> Any:  # noqa: ANN401 - any value
    for part in place:
        tree = getattr(tree, str(part)) if isinstance(tree, BaseModel) else tree[part]
    return tree


def _describe(
    problems: Sequence[ErrorDetails],
    kind: type[BaseModel],
    written: Written,
    name: str,
    prefix: str,
) -> Iterator[str]:
    """A line for each place, but none for a section or list in which something is wrong."""
    places = [_place(problem, written) for problem in problems]
    for place in dict.fromkeys(places):
        if any(len(other) > len(place) and other[: len(place)] == place for other in places):
            continue
        here = [one for one, at in zip(problems, places, strict=True) if at == place]
        yield f"{written.where_is(place, name)}: {_say(here, place, kind, written, prefix)}"


def _place(problem: ErrorDetails, written: Written) -> Place:
    """Where a value stands; pydantic adds a name for each type that it may have."""
    place = problem["loc"]
    is_type = bool(place) and place[-1] in _TYPES and place not in written.where
    return place[:-1] if is_type else place


def _say(
    problems: Sequence[ErrorDetails],
    place: Place,
    kind: type[BaseModel],
    written: Written,
    prefix: str,
) -> str:
    """What is wrong at one place; a value that may have several types has a problem for each."""
    problem, given = problems[0], problems[0]["input"]
    key = _key(place, prefix)
    wanted = [_WANTED[one["type"]] for one in problems if one["type"] in _WANTED]
    old = _old_name(problem, place, prefix)
    if old is not None:
        return f"{key} = '{given}' {old}" if isinstance(given, str) else f"'{key}' {old}"
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_nearest(kind, place, prefix)}"
    if problem["type"] == "missing":
        names = [f"'{key}{below}'" for below in _needed(kind, place)]
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
    if problem["type"] == "value_error":
        return problem["msg"].removeprefix("Value error, ")
    expected = (
        "expected " + " or ".join(wanted).format_map(problem.get("ctx", {}))
        if wanted
        else problem["msg"]
    )
    found = describe_value(given, written.letters.get(place))
    where = f"{key}: " if key else ""  # the top of a file has no key
    return f"{where}{expected}, found {found}{_advice(problem['type'], key, given)}"


def _old_name(problem: ErrorDetails, place: Place, prefix: str) -> str | None:
    """What became of a key or value of an earlier release; None if there never was one."""
    key = _key((part for part in place if isinstance(part, str)), prefix)
    is_key = problem["type"] == "extra_forbidden"
    return OLD_KEYS.get(key if is_key else f"{key}={problem['input']}")


def _key(place: Iterable[str | int], prefix: str) -> str:
    return prefix + ".".join(map(str, place))


def describe_value(value: object, letters: str | None = None) -> str:
    """A value as a message shows it: what it was read as, and what was written."""
    match value:
        case None:
            return "nothing"
        case bool():
            meant = "true" if value else "false"
            return meant if letters in {None, meant} else f"{meant} (written {letters})"
        case str():
            return f"'{value:.80}'"
        case dict():
            return f"a section: {{{', '.join(f'{k}: {v}' for k, v in value.items()):.80}}}"
        case list() | tuple():
            return f"a list: [{', '.join(map(str, value)):.80}]"
    return str(value) if letters is None else letters


def _advice(problem: str, key: str, given: object) -> str:
    if problem in {"tuple_type", "list_type"} and isinstance(given, (str, int, float)):
        return f"; write {key}=[{given}] or, in a file, {key.rpartition('.')[2]}: [{given}]"
    if problem == "string_type" and isinstance(given, dict):
        return "; put text that has ': ' in it in quotes"
    return ""


def _nearest(kind: type[BaseModel], place: Place, prefix: str) -> str:
    """What the writer of an unknown key may have meant."""
    *above, leaf = place
    siblings = [name for name, _ in _fields(_class_at(kind, above))]
    around = prefix + "".join(f"{part}." for part in above)
    close = difflib.get_close_matches(str(leaf), siblings, 1)
    if close:
        return f"; did you mean '{around}{close[0]}'?"
    elsewhere = [key for key in known_keys(kind) if key.rpartition(".")[2] == leaf]
    if elsewhere:
        return f"; did you mean '{prefix}{elsewhere[0]}'?"
    return f"; known here: {', '.join(siblings)}"


def _fields(kind: type[BaseModel] | None) -> Iterator[tuple[str, Any]]:
    """Keys as they are written, with what belongs there."""
    for name, one in (kind.model_fields if kind else {}).items():
        yield one.alias or name, one.annotation


def _needed(kind: type[BaseModel], place: Place) -> list[str]:
    """Keys that a missing value lacks, such as `.path`: those of a section without a default.

    Of a section whose keys all have one, the first; a value lacks itself.
    """
    wanted = dict(_fields(_class_at(kind, place[:-1]))).get(str(place[-1]))
    if not (isinstance(wanted, type) and issubclass(wanted, BaseModel)):
        return [""]
    required = [name for name, field in wanted.model_fields.items() if field.is_required()]
    return [f".{name}" for name in required or list(wanted.model_fields)[:1]]


def _class_at(kind: type[BaseModel], place: Sequence[str | int]) -> type[BaseModel] | None:
    """Class of the section at a place; None where there is none."""
    found: type[BaseModel] | None = kind
    for part in place:
        if isinstance(part, str):
            found = _class_of(dict(_fields(found)).get(part))
    return found


def _class_of(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - as pydantic has it
    """The section that a field is, or that the items of its list are."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def known_keys(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a class, sections before what is in them."""
    for name, annotation in _fields(kind):
        yield prefix + name
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from known_keys(annotation, f"{prefix}{name}.")
