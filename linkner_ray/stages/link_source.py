"""The link of a run: read, and held against the checkpoint and the LLM of the run."""

import hashlib
import json
from typing import Any

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
    return {
        "checkpoint": encoder_digest(recognize.checkpoint),
        "calibration": calibration_digest(recognize.checkpoint),
        "label set": label_set.digest,
        "llm.model": llm.model,
        "llm's content": known_content(llm),
        "llm.demonstrations": {**shown, "corpus": corpus_digest(llm)},
        "prompt": prompt_digest(llm, label_set),
    }


def link_bytes(link: Link, identity: dict[str, Any]) -> bytes:
    """A link as a file."""
    tree = {"of": identity, FORMAT: link.to_json()}
    return (json.dumps(tree, indent=1) + "\n").encode()


def link_of(
    routing: RoutingConfig, recognize: RecognizeConfig, llm: LlmConfig, label_set: LabelSet
) -> Link | None:
    """The link that a config names, if it names one and has an LLM; raises as `read_link`."""
    if routing.link is None or llm.backend == "none":
        return None
    return read_link(routing.link, link_identity(recognize, llm, label_set))


def read_link(path: str, identity: dict[str, Any]) -> Link:
    """Read the link of a run.

    Args:
        path: A file that `linkner link` wrote, local or with a scheme.
        identity: `link_identity` of the run.

    Raises:
        ConfigError: If it cannot be read, is no link, or is one of another checkpoint, LLM, prompt
            or label set; says which differ.
    """
    try:
        tree = json.loads(read_file(path))
        of, link = dict(tree["of"]), Link.from_json(tree[FORMAT])
    except OSError as error:
        raise ConfigError(
            f"routing.link = {path}: cannot be read: {error}; correct the path"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"routing.link = {path}: is no link ({type(error).__name__}: {error}); "
            "`linkner link` makes one"
        ) from error
    others = {name: (of.get(name), here) for name, here in identity.items() if of.get(name) != here}
    if others:
        told = "; ".join(f"{name} was {there}, is {here}" for name, (there, here) in others.items())
        raise ConfigError(
            f"routing.link = {path}: was measured on something else: {told}; run `linkner link` "
            "for this checkpoint and LLM, or name the ones that it belongs to"
        )
    return link
