"""`linkner show`: one document of a run, with every question asked about it and its answer."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import pyarrow.parquet as pq

from linkner_ray.config import LlmConfig
from linkner_ray.errors import ConfigError
from linkner_ray.evaluation.visible import make_visible
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends import endpoint, replay, vllm_engine
from linkner_ray.llm.context import ContextSize, render_context
from linkner_ray.llm.model_identity import model_revision
from linkner_ray.llm.prompts import SYMBOL_ALPHABETS, Questionnaire, Request, choose_symbols
from linkner_ray.storage import Folder

MAX_COMPARED_IDS = 20_000
"""Ids an unknown one is compared with, since each comparison takes microseconds."""

SHOWN_PROBS = 4

_DECODINGS = {
    "vllm": vllm_engine.DECODING,
    "openai": endpoint.DECODING,
    "replay": replay.DECODING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What `_run.json` says of a run, as far as it is needed here."""

    config: Mapping[str, Any]
    label_set: LabelSet

    revision: str | None
    """Of the LLM as it is now."""

    def request_asked(
        self, row: Mapping[str, Any], candidate: Mapping[str, Any], *, key: str
    ) -> Request:
        """The request that was named `key`; if there is none any more, the nearest to it."""
        requests = list(self._requests(row, candidate))
        return next((request for request in requests if request.key == key), requests[0])

    def _requests(self, row: Mapping[str, Any], candidate: Mapping[str, Any]) -> Iterator[Request]:
        """A candidate's request with each set of symbols that the backend may have chosen.

        A model whose files have changed since is another one, and so is one that is not here.
        """
        llm = self.config["llm"]
        question = render_context(
            row["text"],
            [(sentence["start"], sentence["end"]) for sentence in row["sentences"]],
            index=candidate["sentence"],
            span=(candidate["start"], candidate["end"]),
            size=ContextSize(llm["context_sentences"], llm["max_context_chars"]),
        )
        revisions = dict.fromkeys((self.revision, llm["revision"]))
        count = len(self.label_set.classes)
        for alphabet, revision in product(SYMBOL_ALPHABETS, revisions):
            if count <= len(alphabet):
                yield Questionnaire.for_label_set(
                    self.label_set,
                    choose_symbols(count, alphabet),
                    model=llm["model"],
                    revision=revision,
                    decoding=_DECODINGS[llm["backend"]],
                ).request(question)


def show_document(output_path: str, doc_id: str) -> str:
    """Describe a document of a run for a reader at a terminal.

    Args:
        output_path: Folder of the run, local or with a scheme.
        doc_id: As in the output; every document that has it is shown.

    Returns:
        Entities, then candidates with what both models said of them and the prompt that was
        asked. What the run did not keep is named with the option that keeps it.

    Raises:
        ConfigError: If the folder is not a run's, or has no such document; names similar ids.
    """
    folder = Folder.at(output_path)
    if not folder.exists("_run.json"):
        raise ConfigError(f"{output_path} is not the output of a run: it has no _run.json")
    facts = json.loads(folder.read_bytes("_run.json"))
    run = _Run(
        config=facts["config"],
        label_set=LabelSet.model_validate(facts["label_set"]),
        revision=_revision_now(LlmConfig.model_validate(facts["config"]["llm"])),
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
        tables = []
        for part in parts:
            with folder.open(part) as stream:
                tables.append(pq.ParquetFile(stream).read().take(places).to_pylist())
        for rows in zip(*tables, strict=True):
            yield {"part": name} | {key: value for row in rows for key, value in row.items()}


def _ids(folder: Folder, name: str) -> list[str]:
    with folder.open(f"entities/{name}") as stream:
        return pq.ParquetFile(stream).read(columns=["doc_id"])["doc_id"].to_pylist()


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
    yield f"text       {row['num_chars']:,} characters in {row['num_sentences']} sentences"
    yield f"digest     {row['doc_digest']}"
    yield ""
    yield f"{len(row['entities'])} entities"
    for entity in row["entities"]:
        yield (
            f"  {entity['start']}..{entity['end']}  {entity['label']} {entity['score']:.3f}  "
            f"by {entity['source']}  {_quoted(entity['text'])}"
        )
    yield ""
    yield f"{row['num_candidates']} candidates, {row['num_routed']} of them sent to the LLM"
    if "candidates" in row:
        yield from _describe_candidates(run, row)
    elif row["num_candidates"]:
        yield "  not kept; run with output.keep_candidates=true to see them"


def _describe_candidates(run: _Run, row: Mapping[str, Any]) -> Iterator[str]:
    judged = list(zip(row["candidates"], row["routes"], row["answers"], strict=True))
    requests = {
        index: run.request_asked(row, candidate, key=answer["key"])
        for index, (candidate, route, answer) in enumerate(judged)
        if route == "llm" and "text" in row
    }
    for index, (candidate, route, answer) in enumerate(judged):
        yield ""
        yield from _describe_local(run, row, candidate)
        if route == "local":
            yield "    route    local"
            continue
        yield f"    route    {route}, answered by {answer['source']}"
        yield f"    verdict  {_verdict(run, answer)}"
        if index in requests:
            yield from _block("prompt", requests[index].user_message)
            if requests[index].key != answer["key"]:
                yield "             (rendered anew: the run named its request otherwise, so it may"
                yield "             have asked in other words)"
        else:
            yield "    prompt   cannot be shown; run with output.keep_text=true"
    for request in islice(requests.values(), 1):
        yield ""
        yield "every prompt above comes after this part, the same for the whole run"
        yield from _block("system", request.fixed_part)


def _describe_local(
    run: _Run, row: Mapping[str, Any], candidate: Mapping[str, Any]
) -> Iterator[str]:
    start, end = candidate["start"], candidate["end"]
    yield f"  {start}..{end}  {_quoted(row['text'][start:end]) if 'text' in row else ''}".rstrip()
    yield (
        f"    local    {candidate['kind']} {candidate['label']}, uncertainty "
        f"{candidate['uncertainty']:.3f}; {_probs(run, candidate['label_probs'])}"
    )


def _verdict(run: _Run, answer: Mapping[str, Any]) -> str:
    label = f" {answer['label']}" if answer["label"] else ""
    probs = f"; {_probs(run, answer['probs'])}" if answer["probs"] else ""
    return f"{answer['verdict']}{label}{probs}"


def _probs(run: _Run, probs: Sequence[float]) -> str:
    """The most probable classes."""
    ranked = sorted(zip(probs, run.label_set.classes, strict=True), reverse=True)
    return ", ".join(f"{name} {prob:.3f}" for prob, name in ranked[:SHOWN_PROBS])


def _quoted(text: str) -> str:
    return f'"{make_visible(text, one_line=True)}"'


def _block(title: str, text: str) -> Iterator[str]:
    """Several lines of text under a title, set apart by a margin."""
    for number, line in enumerate(make_visible(text).splitlines()):
        yield f"    {title if number == 0 else '':<8} | {line}".rstrip()
