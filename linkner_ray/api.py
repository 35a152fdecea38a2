"""The whole method on a few texts, in this process and without Ray.

    from linkner_ray import LinkNER

    with LinkNER.from_pretrained("checkpoints/mine") as linkner:
        for entity in linkner.predict(["Angela Merkel met Siemens managers in Berlin."])[0]:
            print(entity.start, entity.end, entity.label, entity.score)

The stages are those of a run, so the entities are those that a run would write.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import pyarrow as pa

from linkner_ray.config import (
    CacheConfig,
    Config,
    LlmConfig,
    RecognizeConfig,
    RoutingConfig,
    SentencesConfig,
    check_replay,
)
from linkner_ray.config.validation import validate
from linkner_ray.config.yaml_text import Written
from linkner_ray.errors import ConfigError, refuse_bare_string
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends import Backend
from linkner_ray.reporting.found import Entity, Predictions, TextEntities
from linkner_ray.schemas import DOCUMENTS
from linkner_ray.spanner.calibration.named_threshold import resolved_routing
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.contract import Stage
from linkner_ray.stages.link_source import asked_as_linked, link_of
from linkner_ray.stages.recognize_spans import RecognizeSpans

_Part = TypeVar("_Part", bound=Config)


class LinkNER:
    """A checkpoint, and an LLM if there is one, ready for texts.

    Use it as a context manager, or call `close`, where it has started an engine. It is not for
    several threads at once.
    """

    def __init__(self, chain: Chain, recognize: Stage, backend: Backend | None) -> None:
        """Put stages together; `from_pretrained` is the way to make one.

        Args:
            chain: The stages.
            recognize: The local model.
            backend: The LLM, which `close` ends; None to do without.
        """
        self.label_set: LabelSet = chain.label_set
        """Of the checkpoint."""
        self._chain = chain
        self._steps = (
            chain.split_step(),
            chain.recognize_step(recognize),
            chain.classify_step(backend),
            chain.fuse_step(),
        )
        self._backend = backend

    @classmethod
    def from_pretrained(  # noqa: PLR0913 - the parts of a config
        cls,
        folder: str,
        *,
        llm: LlmConfig | Mapping[str, Any] | None = None,
        recognize: RecognizeConfig | Mapping[str, Any] | None = None,
        routing: RoutingConfig | Mapping[str, Any] | None = None,
        cache: CacheConfig | Mapping[str, Any] | None = None,
        sentences: SentencesConfig | Mapping[str, Any] | None = None,
    ) -> Self:
        """Load a checkpoint, and start an LLM if one is given.

        Args:
            folder: Folder written by training, local or with a scheme.
            llm: None for the local model alone, or as in a config: what it names is started.
            recognize: As in a config. By default each text has forward passes of its own, so what
                is found in it does not depend on the texts beside it.
            routing: As in a config, but for budgets in calls, which are of a run.
            cache: Where answers are kept.
            sentences: As in a config.

        Raises:
            ConfigError: If there is no such checkpoint, or a part of the config is wrong.
            StartupError: If the checkpoint is damaged or fails its self-check, or the LLM does not
                start.
        """
        settings = _part(LlmConfig, {"backend": "none"} if llm is None else llm, "llm")
        kept = _part(CacheConfig, cache, "cache")
        by_document = {"batch_scope": "document"}
        recognizing = _part(RecognizeConfig, recognize or by_document, "recognize")
        recognizing = recognizing.model_copy(update={"checkpoint": folder})
        routes = _routing_part(routing, recognizing)
        settings = asked_as_linked(settings, routes)
        split = _part(SentencesConfig, sentences, "sentences")
        stage = RecognizeSpans(recognizing)
        routes.check_labels(stage.label_set.ids)
        link = link_of(routes, recognizing, settings, stage.label_set)
        chain = Chain(
            label_set=stage.label_set,
            recognize=recognizing,
            llm=settings,
            has_llm=settings.backend != "none" and (link is None or link.asks),
            routing=routes,
            sentences=split,
            link=link,
            cache=kept,
        )
        backend = _start_llm(chain)
        try:
            return cls(chain, stage, backend)
        except BaseException:
            if backend is not None:
                backend.close()
            raise

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Entities of each text: lists, with `to_pandas`, `to_displacy` and `[0].to_spacy(doc)`.

        Raises:
            TypeError: If it is given one text and no list, or something in the list is no str.
            ValueError: If a text has lone surrogates, which are no characters.
            BackendError: If the LLM cannot answer any more.
            StartupError: If the local model computes no number for a text.
        """
        _check_texts(texts)
        rows = [
            {"doc_id": str(index), "url": None, "lang": None, "text": text}
            for index, text in enumerate(texts)
        ]
        found = self.run(pa.Table.from_pylist(rows, schema=DOCUMENTS))["entities"].to_pylist()
        return Predictions(
            TextEntities(text, (Entity(**entity) for entity in entities))
            for text, entities in zip(texts, found, strict=True)
        )

    def run(self, documents: pa.Table) -> pa.Table:
        """Documents of schema `schemas.DOCUMENTS` with the columns of all stages.

        Raises:
            BackendError: If the LLM cannot answer any more.
            StartupError: If the local model computes no number for a document.
        """
        [unit] = self._chain.units_at_hand([documents])
        for step in self._steps:
            step(unit)
        unit.require_finite()
        return unit.documents

    def close(self) -> None:
        """End the engine that was started here; a second call does nothing."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def __enter__(self) -> Self:
        """Nothing more to start."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the engine that was started here."""
        self.close()


def _check_texts(texts: Sequence[object]) -> None:
    refuse_bare_string("texts", texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{index}] is {text!a:.40}, no str; decode it, or leave it out")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"texts[{index}] is no text: {error}; read it with errors='replace'"
            ) from error


def _part(kind: type[_Part], given: _Part | Mapping[str, Any] | None, name: str) -> _Part:
    """A part of a config from itself or from its values."""
    if isinstance(given, kind):
        return given
    tree = copy.deepcopy(dict(given or {}))
    return validate(kind, Written(tree=tree), "LinkNER.from_pretrained", prefix=f"{name}.")


def _routing_part(
    given: RoutingConfig | Mapping[str, Any] | None, recognize: RecognizeConfig
) -> RoutingConfig:
    """Routing with its threshold as a number."""
    routing = _part(RoutingConfig, given, "routing")
    if routing.max_calls is not None:
        raise ConfigError(
            f"routing.budget = '{routing.budget}' counts the calls of a run, and here is none; "
            "give a share, such as '5%'"
        )
    return resolved_routing(routing, recognize)


def _start_llm(chain: Chain) -> Backend | None:
    try:
        check_replay(chain.llm, chain.cache)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return chain.start_llm()
