"""`linkner show`: one document of a run, with the questions asked about it and their answers."""

import difflib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from linkner_ray.config import LlmConfig
from linkner_ray.errors import ConfigError, DataError, counted
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends.forms import possible_builders
from linkner_ray.llm.context import ContextSize, ask_span
from linkner_ray.llm.demonstrations import Demonstrations, Shown
from linkner_ray.llm.model_identity import model_revision
from linkner_ray.llm.prompts import PromptBuilder, Request
from linkner_ray.reporting.cards import name_probs
from linkner_ray.reporting.visible import make_visible
from linkner_ray.runs.finished import read_part
from linkner_ray.runs.folder import RunFolder
from linkner_ray.schemas import ASKED_ROUTES
from linkner_ray.stages.demonstration_source import load_demonstrations
from linkner_ray.storage import Folder

logger = logging.getLogger(__name__)

MAX_COMPARED_IDS = 20_000
"""Ids that an unknown one is compared with; a comparison takes microseconds."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """The parts of `_run.json` that are needed here."""

    config: Mapping[str, Any]
    label_set: LabelSet

    revision: str | None
    """Of the LLM as it is now."""

    def request_asked(
        self, row: Mapping[str, Any], candidate: Mapping[str, Any], *, key: str
    ) -> Request:
        """The request with this key; if it cannot be rendered any more, the most similar one."""
        requests = list(self._requests(row, candidate))
        return next((request for request in requests if request.key == key), requests[0])

    @cached_property
    def llm(self) -> LlmConfig:
        """The run's config of the LLM."""
        return LlmConfig.model_validate(self.config["llm"])

    @cached_property
    def demonstrations(self) -> Demonstrations | None:
        """Chooses demonstrations as the run did; None also where its corpus is gone."""
        try:
            return load_demonstrations(self.llm, self.label_set)
        except (ConfigError, DataError) as error:
            logger.warning("prompts are shown without their demonstrations: %s", error)
            return None

    @cached_property
    def prompt_builders(self) -> list[PromptBuilder]:
        """What the backend may have asked with.

        A model whose files have changed since is another one, and so is one that is not here.
        """
        return list(
            possible_builders(
                self.llm,
                self.label_set,
                backends=[self.llm.backend],
                revisions=(self.revision, self.llm.revision),
            )
        )

    def _requests(self, row: Mapping[str, Any], candidate: Mapping[str, Any]) -> Iterator[Request]:
        """A candidate's request by each prompt builder."""
        asked = ask_span(
            row["text"],
            [(sentence["start"], sentence["end"]) for sentence in row["sentences"]],
            index=candidate["sentence"],
            span=(candidate["start"], candidate["end"]),
            size=ContextSize(self.llm.context_sentences, self.llm.max_context_chars),
        )
        shown = self.demonstrations.choose([asked])[0] if self.demonstrations else Shown()
        for prompt_builder in self.prompt_builders:
            yield prompt_builder.request(asked.question, fixed=shown.fixed, near=shown.near)


def show_document(output_path: str, doc_id: str) -> str:
    """Describe each document with this id for a reader at a terminal.

    Entities, then candidates with what both models said of them and the prompt that was asked. What
    the run did not keep is named with the option that keeps it.

    Raises:
        ConfigError: If the folder is not a run's, or has no such document; names similar ids.
        DataError: If a part file is damaged.
    """
    output = RunFolder(output_path)
    folder, record = output.folder, output.known_record()
    run = _Run(
        config=record["config"],
        label_set=LabelSet.model_validate(record["label_set"]),
        revision=_revision_now(LlmConfig.model_validate(record["config"]["llm"])),
    )
    rows = list(_find(folder, doc_id))
    if not rows:
        raise ConfigError(f"{output_path} has no document '{doc_id}'{_similar(folder, doc_id)}")
    return "\n\n\n".join("\n".join(_describe(run, row)) for row in rows) + "\n"


def _revision_now(llm: LlmConfig) -> str | None:
    try:
        return model_revision(llm)
    except ConfigError:  # what was replayed is gone
        return None


def _find(folder: Folder, doc_id: str) -> Iterator[dict[str, Any]]:
    """Rows of a document, joined with its candidates where the run kept them."""
    for name in folder.names("entities", "part-*.parquet"):
        places = [place for place, found in enumerate(_ids(folder, name)) if found == doc_id]
        if not places:
            continue
        parts = [f"entities/{name}"]
        if folder.exists(f"candidates/{name}"):
            parts.append(f"candidates/{name}")
        tables = [read_part(folder, part).take(places).to_pylist() for part in parts]
        for rows in zip(*tables, strict=True):
            yield {"part": name} | {key: value for row in rows for key, value in row.items()}


def _ids(folder: Folder, name: str) -> list[str]:
    return read_part(folder, f"entities/{name}", ["doc_id"])["doc_id"].to_pylist()


def _similar(folder: Folder, doc_id: str) -> str:
    """The ids most like an unknown one, for the end of a message."""
    names = folder.names("entities", "part-*.parquet")
    known = list(islice((i for name in names for i in _ids(folder, name)), MAX_COMPARED_IDS))
    close = difflib.get_close_matches(doc_id, known, n=3, cutoff=0.5) or known[:3]
    quoted = ", ".join(f"'{make_visible(found, one_line=True)}'" for found in close)
    return f"; did you mean one of {quoted}?" if quoted else "; it has no documents at all"


def _describe(run: _Run, row: Mapping[str, Any]) -> Iterator[str]:
    yield f"document   {make_visible(row['doc_id'], one_line=True)}"
    if row["url"]:
        yield f"url        {make_visible(row['url'], one_line=True)}"
    yield f"file       {row['part']}"
    length = counted(row["num_chars"], "character")
    yield f"text       {length} in {counted(row['num_sentences'], 'sentence')}"
    yield f"digest     {row['doc_digest']}"
    yield ""
    yield counted(len(row["entities"]), "entity")
    for entity in row["entities"]:
        yield (
            f"  {entity['start']}..{entity['end']}  {entity['label']} {entity['score']:.3f}  "
            f"by {entity['source']}  {_quoted(entity['text'])}"
        )
    yield ""
    candidates = counted(row["num_candidates"], "candidate")
    yield f"{candidates}, {row['num_routed']} of them sent to the LLM"
    if "candidates" in row:
        yield from _describe_candidates(run, row)
    elif row["num_candidates"]:
        yield "  not kept; run with output.keep_candidates=true to see them"


def _describe_candidates(run: _Run, row: Mapping[str, Any]) -> Iterator[str]:
    judged = list(zip(row["candidates"], row["routes"], row["answers"], strict=True))
    requests = {
        index: run.request_asked(row, candidate, key=answer["key"])
        for index, (candidate, route, answer) in enumerate(judged)
        if route in ASKED_ROUTES and "text" in row
    }
    systems = dict.fromkeys(request.messages[0][1] for request in requests.values())
    numbers = {system: number for number, system in enumerate(systems, 1)}
    for index, (candidate, route, answer) in enumerate(judged):
        yield ""
        yield from _describe_local(run, row, candidate)
        if route not in ASKED_ROUTES:
            yield f"    route    {route.replace('_', ' ')}"
            if answer is not None:
                yield f"    verdict  {_verdict(run, answer)}"
            continue
        yield f"    route    {route}, answered by {answer['source']}"
        yield f"    verdict  {_verdict(run, answer)}"
        if index in requests:
            yield from _describe_request(requests[index], numbers, key=answer["key"])
        else:
            yield "    prompt   cannot be shown; run with output.keep_text=true"
    for system, number in numbers.items():
        yield ""
        if len(numbers) > 1:
            yield f"part {number} that prompts above begin with"
        else:
            yield "every prompt above comes after this part, the same for the whole run"
        yield from _block("system", system)


def _describe_request(request: Request, numbers: Mapping[str, int], *, key: str) -> Iterator[str]:
    """A prompt, with the number of its beginning where prompts begin in several ways."""
    if len(numbers) > 1:
        yield f"    begins   with part {numbers[request.messages[0][1]]} below"
    yield from _block("prompt", request.user_message)
    if request.key != key:
        yield "             (rendered anew: the run named its request otherwise, so it may"
        yield "             have asked in other words)"


def _describe_local(
    run: _Run, row: Mapping[str, Any], candidate: Mapping[str, Any]
) -> Iterator[str]:
    start, end = candidate["start"], candidate["end"]
    yield f"  {start}..{end}  {_quoted(row['text'][start:end]) if 'text' in row else ''}".rstrip()
    probs = name_probs(candidate["label_probs"], run.label_set.classes)
    yield (
        f"    local    {candidate['kind']} {candidate['label']}, uncertainty "
        f"{candidate['uncertainty']:.3f}; {probs}"
    )


def _verdict(run: _Run, answer: Mapping[str, Any]) -> str:
    label = f" {answer['label']}" if answer["label"] else ""
    probs = f"; {name_probs(answer['probs'], run.label_set.classes)}" if answer["probs"] else ""
    return f"{answer['verdict']}{label}{probs}"


def _quoted(text: str) -> str:
    return f'"{make_visible(text, one_line=True)}"'


def _block(title: str, text: str) -> Iterator[str]:
    """Several lines of text under a title, set apart by a margin."""
    for number, line in enumerate(make_visible(text).splitlines()):
        yield f"    {title if number == 0 else '':<8} | {line}".rstrip()
