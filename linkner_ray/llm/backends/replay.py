"""Answers without an LLM: from an answer cache, or from what some LLM once extracted."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, ValidationError

from linkner_ray.config import LlmConfig
from linkner_ray.corpora.spanner_json import distinct_keys
from linkner_ray.errors import ConfigError, DataError
from linkner_ray.labels import NON_ENTITY, LabelSet
from linkner_ray.llm.backends.forms import REPLAYED, possible_builders, usual_symbols
from linkner_ray.llm.backends.protocol import Failures
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.context import sanitise
from linkner_ray.llm.model_identity import model_revision, read_recording
from linkner_ray.llm.prompts import Answer, Request, Verdict

Span = tuple[int, int]
"""Half-open, in visible characters: those that are no white space."""


class _Replay:
    """What answers without an LLM, a request at a time."""

    decoding = REPLAYED

    def __init__(self, config: LlmConfig, label_set: LabelSet) -> None:
        self.symbols = usual_symbols(config, len(label_set.classes))
        self._config = config
        self._failures = Failures()

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Look every request up, in the order given."""
        return [self._find(request) for request in requests]

    def describe(self) -> dict[str, str | int]:
        """The model, and misses by reason."""
        described = {"backend": "replay", "model": self._config.model}
        return {**described, **self._failures.described()}

    def close(self) -> None:
        """Nothing is held that needs closing."""

    def _find(self, request: Request) -> Answer:
        raise NotImplementedError


class CacheReplay(_Replay):
    """Answers from an answer cache that a vLLM engine or an endpoint filled; a miss is FAILED.

    A request is looked up under every name that one of them may have given it: in each form, and
    with each revision by which the model may have been known.
    """

    def __init__(self, config: LlmConfig, label_set: LabelSet, *, cache: AnswerCache) -> None:
        super().__init__(config, label_set)
        self._cache = cache
        self._prompt_builders = list(
            possible_builders(
                config,
                label_set,
                backends=("vllm", "openai"),
                revisions=(model_revision(config), config.revision),
            )
        )

    def describe(self) -> dict[str, str | int]:
        """The model, what is kept, and misses by reason."""
        return {**super().describe(), "answers": len(self._cache), **self._cache.counts}

    def _find(self, request: Request) -> Answer:
        fixed, near = request.demonstrations
        keys = [
            builder.request(request.question, fixed=fixed, near=near).key
            for builder in self._prompt_builders
        ]
        found = self._cache.find(keys)
        for key in keys:
            if key in found:
                return replace(found[key], key=request.key)
        return self._failures.answer(request, "not_in_cache", "it was never asked before")


class RecordedSentence(BaseModel):
    """A line of a recorded file: tokens, and entities by token; None where there was no reply."""

    model_config = ConfigDict(strict=True)

    index: int
    tokens: list[str]
    entities: list[tuple[int, int, str]] | None


class RecordedReplay(_Replay):
    """Verdicts on spans, read out of what an LLM once extracted from whole sentences.

    A span that was extracted has the label it got there, any other is a non-entity. Sentences are
    recognised by their visible characters, and spans by how many of these come before them, so that
    the spaces which `context.sanitise` sets and takes away make no difference. A label that is
    not of the set is UNREADABLE; a sentence that was not recorded, or had no reply, is FAILED.
    """

    def __init__(self, config: LlmConfig, label_set: LabelSet) -> None:
        """Read the file `llm.replay_path`.

        Raises:
            ConfigError: If there is no such file, or a recorded sentence is longer than
                `llm.max_context_chars`, so that it would be asked about in part.
            DataError: If a line is not one of such a file.
        """
        super().__init__(config, label_set)
        self._classes = frozenset(label_set.classes)
        self._counts: Counter[str] = Counter()
        self._sentences: dict[str, dict[Span, str] | None] = {}
        for line in read_recorded(str(config.replay_path)):
            text = " ".join(line.tokens)
            if len(text) > config.max_context_chars:
                raise ConfigError(
                    f"{config.replay_path}: sentence {line.index} has {len(text)} characters, over "
                    f"llm.max_context_chars = {config.max_context_chars}; raise it, since a "
                    "recording answers for whole sentences"
                )
            self._add(_visible(text), _spans(line))

    def describe(self) -> dict[str, str | int]:
        """The file, what is in it, and misses by reason."""
        return {
            **super().describe(),
            "replay_path": self._config.replay_path or "",
            "sentences": len(self._sentences),
            **self._counts,
        }

    def _add(self, text: str, labels: dict[Span, str] | None) -> None:
        """Keep a sentence unless it was recorded before; the first recording counts."""
        if text in self._sentences:
            self._counts["sentences_repeated"] += 1
            self._counts["sentences_conflicting"] += self._sentences[text] != labels
        else:
            self._sentences[text] = labels

    def _find(self, request: Request) -> Answer:
        context, start, end = request.question
        text = _visible(context)
        if text not in self._sentences:
            return self._failures.answer(request, "not_recorded", "no such sentence was recorded")
        labels = self._sentences[text]
        if labels is None:
            return self._failures.answer(request, "no_reply", "the sentence had no reply")
        before = len(_visible(context[:start]))
        span = (before, before + len(_visible(context[start:end])))
        label = labels.get(span, NON_ENTITY)
        if label not in self._classes:
            return Answer(verdict=Verdict.UNREADABLE, key=request.key, source="cache")
        return replace(Answer.of_class(label, key=request.key), source="cache")


def read_recorded(path: str) -> Iterator[RecordedSentence]:
    """Lines of a recorded file.

    Raises:
        ConfigError: If it cannot be read.
        DataError: If a line is no recorded sentence, or gives a key twice.
    """
    # Lines of bytes: in text, `splitlines` also ends a line at characters that JSON strings hold.
    for number, line in enumerate(read_recording(path).splitlines(), start=1):
        where = f"{path}:{number}"
        try:
            sentence = RecordedSentence.model_validate_json(line)
            json.loads(line, object_pairs_hook=distinct_keys)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"])) or "the line"
            raise DataError(
                f"{where}: {place}: {problem['msg']}; expected "
                '{"index": int, "tokens": [str], "entities": [[start, end, label]] or null}'
            ) from error
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
        for start, end, label in sentence.entities or ():
            if not 0 <= start < end <= len(sentence.tokens):
                raise DataError(
                    f"{where}: entity {start}..{end} {label} does not lie in "
                    f"{len(sentence.tokens)} tokens; ends are exclusive"
                )
        yield sentence


def _spans(line: RecordedSentence) -> dict[Span, str] | None:
    """Entities of a line by their place; of two labels for one span the first counts."""
    if line.entities is None:
        return None
    offsets = [0]
    for token in line.tokens:
        offsets.append(offsets[-1] + len(_visible(token)))
    labels: dict[Span, str] = {}
    for start, end, label in line.entities:
        labels.setdefault((offsets[start], offsets[end]), label)
    return labels


def _visible(text: str) -> str:
    """A text without white space, and otherwise as `sanitise` leaves it."""
    return "".join(sanitise(text).split())
