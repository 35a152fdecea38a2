"""The link of a run: read, and held against the checkpoint and the LLM of the run."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from linkner_ray.config import LlmConfig, RecognizeConfig, RoutingConfig
from linkner_ray.errors import ConfigError
from linkner_ray.labels import LabelSet
from linkner_ray.linking.link import Link
from linkner_ray.llm.backends.forms import usual_symbols
from linkner_ray.llm.context import Question
from linkner_ray.llm.model_identity import known_content
from linkner_ray.llm.prompts import PromptBuilder
from linkner_ray.spanner.digests import calibration_digest, encoder_digest
from linkner_ray.stages.demonstration_source import corpus_digest, fixed_demonstrations
from linkner_ray.storage import read_file

FORMAT = "linkner-link-1"

_T = TypeVar("_T")


def prompt_digest(config: LlmConfig, label_set: LabelSet) -> str:
    """Name of what every question has in common: changes with any word of the prompt.

    Replies by first tokens are not those by whole names, though the words of the prompt are.
    """
    symbols = usual_symbols(config, len(label_set.classes))
    prompt_builder = PromptBuilder.for_label_set(
        label_set, symbols, model=config.model, decoding=""
    )
    fixed = fixed_demonstrations(config, label_set)
    request = prompt_builder.request(Question("Ada", 0, 3), fixed=fixed)
    form = ["name"] if config.answer_form == "name" else []
    return hashlib.blake2b(repr([request.messages, *form]).encode(), digest_size=8).hexdigest()


def link_identity(
    recognize: RecognizeConfig, llm: LlmConfig, label_set: LabelSet
) -> dict[str, Any]:
    """What a link was measured on, and is good for.

    Raises:
        ConfigError: If the demonstrations' corpus cannot be read.
    """
    shown = llm.demonstrations.model_dump(include={"kind", "per_class", "count"})
    usual = "symbol" if usual_symbols(llm, len(label_set.classes)) else "choice"
    return {
        "checkpoint": encoder_digest(recognize.checkpoint),
        "calibration": calibration_digest(recognize.checkpoint),
        "label set": label_set.digest,
        "llm.model": llm.model,
        "llm's content": known_content(llm),
        "llm.answer_form": usual if llm.answer_form == "auto" else llm.answer_form,
        "llm.demonstrations": {**shown, "corpus": corpus_digest(llm)},
        "prompt": prompt_digest(llm, label_set),
    }


def link_bytes(
    link: Link,
    identity: Mapping[str, Any],
    *,
    llm: LlmConfig,
    compared: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """A link as a file.

    Args:
        link: What was measured.
        identity: `link_identity`.
        llm: As it was asked; a run with this link asks so, too.
        compared: What is known of each way of asking that was tried.
    """
    tree = {"of": identity, "asked": asked_way(llm), "compared": compared, FORMAT: link.to_json()}
    return (json.dumps(tree, indent=1) + "\n").encode()


def asked_way(llm: LlmConfig) -> dict[str, Any]:
    """The keys of a config that say how an LLM is asked, without secrets."""
    return {"answer_form": llm.answer_form, "demonstrations": llm.demonstrations.shown()}


def asked_as_linked(llm: LlmConfig, routing: RoutingConfig) -> LlmConfig:
    """The LLM's config, asked as its link was measured in all that the config leaves open.

    That is the form of its answers where it is `auto`, and of the demonstrations all keys that are
    not set.

    Raises:
        ConfigError: If the link cannot be read or is none, or this LLM cannot be asked so.
    """
    if routing.link is None or llm.backend == "none":
        return llm
    asked = _read(routing.link, lambda tree: dict(tree.get("asked", {})))
    given = llm.model_dump()
    shown = llm.demonstrations.model_dump(include=llm.demonstrations.model_fields_set)
    given["demonstrations"] = {**asked.get("demonstrations", {}), **shown}
    if llm.answer_form == "auto":
        given["answer_form"] = asked.get("answer_form", "auto")
    try:
        return LlmConfig.model_validate(given)
    except ValidationError as error:
        told = "; ".join(one["msg"] for one in error.errors())
        raise ConfigError(
            f"routing.link = {routing.link}: was measured in a way that this run cannot ask in: "
            f"{told}; run `linkner link` for this LLM"
        ) from error


def link_of(
    routing: RoutingConfig, recognize: RecognizeConfig, llm: LlmConfig, label_set: LabelSet
) -> Link | None:
    """The link that a config names, if it names one and has an LLM; raises as `read_link`."""
    if routing.link is None or llm.backend == "none":
        return None
    return read_link(routing.link, link_identity(recognize, llm, label_set))


def read_link(path: str, identity: Mapping[str, Any]) -> Link:
    """Read the link of a run.

    Args:
        path: A file that `linkner link` wrote, local or with a scheme.
        identity: `link_identity` of the run.

    Raises:
        ConfigError: If it cannot be read, is no link, or is one of another checkpoint, LLM, prompt
            or label set; says which differ.
    """
    of, link = _read(path, lambda tree: (dict(tree["of"]), Link.from_json(tree[FORMAT])))
    others = {name: (of.get(name), here) for name, here in identity.items() if of.get(name) != here}
    if others:
        told = "; ".join(f"{name} was {there}, is {here}" for name, (there, here) in others.items())
        raise ConfigError(
            f"routing.link = {path}: was measured on something else: {told}; run `linkner link` "
            "for this checkpoint and LLM, or name the ones that it belongs to"
        )
    return link


def _read(path: str, parse: Callable[[Any], _T]) -> _T:
    try:
        return parse(json.loads(read_file(path)))
    except OSError as error:
        raise ConfigError(
            f"routing.link = {path}: cannot be read: {error}; correct the path"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"routing.link = {path}: is no link ({type(error).__name__}: {error}); "
            "`linkner link` makes one"
        ) from error
