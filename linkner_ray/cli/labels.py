"""The commands `linkner labels`: check a label set of one's own, list those that ship."""

from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Annotated

import typer

from linkner_ray.cli.options import JsonFile
from linkner_ray.cli.output import set_output, write_json
from linkner_ray.errors import ConfigError

if TYPE_CHECKING:  # imported where a command needs it: `linkner --help` shows this module, too
    from linkner_ray.labels import Label, LabelSet

LONGEST_DESCRIPTION = 300
"""Code points; every question to the LLM carries every description."""

_NEAR_DUPLICATE = 0.85
"""Above chemical element / chemical compound (0.65), below movie / movies (0.91)."""

app = typer.Typer(
    help="Label sets: the entity types a model tells apart, and how an LLM is told of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="YAML file, or the name of a set that ships.")],
    json_file: JsonFile = None,
) -> None:
    """Check that a label set can be used, and warn of what would confuse an LLM.

    Example: linkner labels check my_labels.yaml
    """
    set_output(json_file=json_file)
    from linkner_ray.labels import NON_ENTITY, load_label_set
    from linkner_ray.llm.prompts import NON_ENTITY_NAME

    reserved = {NON_ENTITY_NAME.casefold(), NON_ENTITY.casefold()}  # read as "not an entity"
    label_set = load_label_set(file)
    for label in label_set.labels:
        taken = reserved & {label.id.casefold(), label.name.casefold()}
        if taken:
            raise ConfigError(
                f"label set {file}: label '{label.id}' answers to '{taken.pop()}', by which the "
                "LLM says that a span is no entity; choose another id or name"
            )
    warnings = find_warnings(label_set)
    for warning in warnings:
        print(f"warning: {warning}")
    num_labels = len(label_set.labels)
    print(f"ok: {num_labels} labels, digest {label_set.digest}, {num_labels + 1} options")
    tree = {"labels": label_set.ids, "digest": label_set.digest, "warnings": warnings}
    write_json(json_file, "labels", tree)


@app.command(name="list")
def list_label_sets(json_file: JsonFile = None) -> None:
    """List the label sets that ship with the package, with their numbers of labels.

    Example: linkner labels list
    """
    set_output(json_file=json_file)
    from linkner_ray.labels import load_label_set, shipped_label_sets

    labels = {name: load_label_set(name).ids for name in shipped_label_sets()}
    width = max(map(len, labels))
    for name, ids in labels.items():
        print(f"{name:<{width}}  {len(ids):>2}")
    write_json(json_file, "label-sets", {"label_sets": labels})


def find_warnings(label_set: "LabelSet") -> list[str]:
    """Find what is allowed in a label set and yet likely to be a mistake.

    Returns:
        One sentence for each find: more labels than there are symbols; ids with white space, which
        no corpus in columns can spell; descriptions that are too long or break the list of options;
        names that are the id of another label or hardly differ from its name.
    """
    from linkner_ray.llm.prompts import SYMBOL_ALPHABETS

    warnings = [warning for label in label_set.labels for warning in _label_warnings(label)]
    num_options, num_symbols = len(label_set.classes), len(SYMBOL_ALPHABETS[0])
    if num_options > num_symbols:
        warnings.append(
            f"{num_options} options (labels and non-entity) are more than {num_symbols} symbols: "
            "a vLLM engine answers with a name and gives no probabilities, an endpoint cannot be "
            "asked"
        )
    for left, right in permutations(label_set.labels, 2):
        if left.name.casefold() == right.id.casefold():
            warnings.append(
                f"name '{left.name}' of '{left.id}' is the id of another label, '{right.id}'; a "
                "reply that says it is read as the name"
            )
    for left, right in combinations(label_set.labels, 2):
        if _similarity(left.name, right.name) >= _NEAR_DUPLICATE:
            warnings.append(
                f"names '{left.name}' ({left.id}) and '{right.name}' ({right.id}) are nearly the "
                "same; an LLM will mix them up"
            )
    return warnings


def _label_warnings(label: "Label") -> Iterator[str]:
    """What is doubtful about one label by itself."""
    from linkner_ray.llm.context import sanitise

    if any(character.isspace() for character in label.id):
        yield f"id '{label.id}' has white space, which tags in columns cannot hold"
    if len(label.description) > LONGEST_DESCRIPTION:
        yield (
            f"description of '{label.id}' has {len(label.description)} characters; every question "
            f"carries it, so stay within {LONGEST_DESCRIPTION}"
        )
    for field, words in (("name", label.name), ("description", label.description)):
        line = " ".join(words.split())
        if sanitise(line) != line:
            yield (
                f"{field} of '{label.id}' has signs of a control string, a span mark or none that "
                "can be seen; write it in plain words"
            )
    if len(label.description.splitlines()) > 1:
        yield f"description of '{label.id}' has several lines; options are listed one a line"


def _similarity(left: str, right: str) -> float:
    """Share of characters that two names have in common, without case and punctuation."""
    left, right = (
        "".join(character for character in name.casefold() if character.isalnum())
        for name in (left, right)
    )
    return SequenceMatcher(None, left, right, autojunk=False).ratio()
