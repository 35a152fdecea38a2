"""A link is measured: an LLM is asked about dev's candidates, and its answers are held to gold."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import LinkConfig, RoutingConfig, SentencesConfig
from linkner_ray.corpora.scores import document_counts
from linkner_ray.corpora.tables import corpus_documents
from linkner_ray.errors import ConfigError, counted
from linkner_ray.evaluation.judge import Gold, entity_triples
from linkner_ray.evaluation.plan import LabelledSet, load_labelled_set
from linkner_ray.linking.judged import UNANSWERED, Answers, Candidates, IntArray
from linkner_ray.linking.link import Link, fit_link
from linkner_ray.llm.model_identity import check_replay_source, with_known_revision
from linkner_ray.logs.progress import step, track
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.schemas import list_offsets
from linkner_ray.spanner.checkpoint import CheckpointParts, local_checkpoint, read_parts
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.link_source import FORMAT, link_bytes, link_identity
from linkner_ray.storage import Folder

UNIT_SENTENCES = 512

ASKED_TOGETHER = 256
"""Candidates, or a sentence's more, whose questions an LLM gets at once."""

CALLS_AT_ONCE = 2
"""So that an engine has questions while the answers to others are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPlan:
    """What is to be measured, read and checked."""

    config: LinkConfig
    checkpoint: CheckpointParts
    dev: LabelledSet


def plan_link(config: LinkConfig) -> LinkPlan:
    """Check all that can be wrong before a model is loaded.

    Raises:
        ConfigError: If there is no checkpoint or dev set, or the output is a file of others.
        DataError: If dev is malformed.
    """
    _check_output(config.output)
    checkpoint = read_parts(local_checkpoint(config.recognize.checkpoint))
    check_replay_source(config.llm, config.cache)
    recognize = config.recognize.with_dtype(0.0)
    config = config.model_copy(
        update={"recognize": recognize, "llm": with_known_revision(config.llm)}
    )
    link_identity(config.recognize, config.llm, checkpoint.label_set)
    return LinkPlan(
        config=config, checkpoint=checkpoint, dev=load_labelled_set(config.dev, checkpoint)
    )


def measure_link(plan: LinkPlan, say: Callable[[str], None]) -> Link:
    """Ask the LLM about dev's candidates, fit a link, and write it.

    Args:
        plan: Of `plan_link`.
        say: Told what is going to be asked, before it is.

    Raises:
        LinknerError: What a stage or the start of a model raised.
    """
    config, label_set = plan.config, plan.checkpoint.label_set
    chain = Chain(
        label_set=label_set,
        recognize=config.recognize,
        llm=config.llm,
        has_llm=True,
        routing=RoutingConfig(threshold=0.0),
        sentences=SentencesConfig(),
        cache=config.cache,
    )
    recognized = recognize_set(chain, plan.dev)
    rows = _sample(recognized, config)
    table, gold = recognized.take(rows), [plan.dev.gold[row] for row in rows]
    num = len(table["candidates"].combine_chunks().flatten())
    sentences = counted(recognized.num_rows, "sentence")
    say(f"{counted(num, 'question')} about {len(rows):,} of {sentences}")
    answered = ask_all(chain, table)
    link = fit_on(chain, answered, gold)
    identity = link_identity(config.recognize, config.llm, label_set)
    folder, name = _file(config.output)
    folder.write_whole(name, link_bytes(link, identity))
    return link


def describe_link(link: Link) -> str:
    """What was measured, as Markdown."""
    gain = f"{100 * link.gain:+.2f} +- {100 * link.gain_error:.2f} points of F1"
    verdict = (
        "a run with this link asks in the order of what an answer is expected to gain"
        if link.asks
        else "that is not told from chance, and a run with this link asks nothing"
    )
    rows = [
        {
            "asked": f"{share:.0%}",
            "F1 on dev": f"{100 * f1:.2f}",
            "gain": f"{100 * (f1 - link.f1):+.2f}",
        }
        for share, f1 in link.by_share
    ]
    return "\n\n".join(
        (
            f"{link.num_answers:,} answers; local F1 {100 * link.f1:.2f}. The answers add {gain}: "
            f"{verdict}.",
            markdown_table(rows),
        )
    )


def _check_output(path: str) -> None:
    """Check that nothing is overwritten but another link.

    Raises:
        ConfigError: If it is a folder, or holds something else.
    """
    folder, name = _file(path)
    if not name or folder.filesystem.isdir(folder.path(name)):
        raise ConfigError(
            f"output = {path}: is a folder; name a file, such as {path.rstrip('/')}/link.json"
        )
    folder.check_writable()
    if name in folder.entries() and f'"{FORMAT}"'.encode() not in folder.read_bytes(name):
        raise ConfigError(f"output = {path}: is no link; choose another name, or move it away")


def _file(url: str) -> tuple[Folder, str]:
    """The folder of a file, and its name there."""
    above, _, name = url.rpartition("/")
    return Folder.at(above or ("/" if url.startswith("/") else ".")), name


def recognize_set(chain: Chain, dev: LabelledSet) -> pa.Table:
    """The sentences of a set with candidates and routes, without Ray."""
    documents, _ = corpus_documents(dev.sentences, ids_prefix=dev.name)
    recognize = chain.recognize_step(chain.load_recognizer())
    sizes = range(0, documents.num_rows, UNIT_SENTENCES)
    units = chain.units_at_hand([documents.slice(first, UNIT_SENTENCES) for first in sizes])
    for unit in track(units, "units of sentences", len(units)):
        recognize(unit)
        unit.require_finite()
    return pa.concat_tables(unit.documents for unit in units).combine_chunks()


def _sample(recognized: pa.Table, config: LinkConfig) -> IntArray:
    """Rows of sentences, any that the seed draws, until they have as many candidates as wanted."""
    sizes = np.diff(list_offsets(recognized["candidates"].combine_chunks()))
    order = np.random.default_rng(config.seed).permutation(len(sizes))
    needed = int(np.searchsorted(sizes[order].cumsum(), config.questions)) + 1
    return np.sort(order[:needed])


def ask_all(chain: Chain, table: pa.Table) -> pa.Table:
    """The documents with the answers to their routes; an answer cache keeps them part by part."""
    units = chain.units_at_hand(list(_parts(table)))
    sizes = [pc.sum(pc.list_value_length(unit.documents["routes"])).as_py() or 0 for unit in units]
    backend = chain.start_llm()
    try:
        classify = chain.classify_step(backend)
        with step("questions", sum(sizes)) as shown, ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            shown.update(0)
            for number, _ in enumerate(pool.map(classify, units), start=1):
                shown.update(sum(sizes[:number]))
    finally:
        if backend is not None:
            backend.close()
    return pa.concat_tables(unit.documents for unit in units).combine_chunks()


def _parts(table: pa.Table) -> Iterator[pa.Table]:
    """Some sentences at a time, in their order."""
    ends = np.cumsum(pc.list_value_length(table["routes"]).to_numpy())
    first = 0
    while first < max(1, table.num_rows):
        before = ends[first - 1] if first else 0
        end = max(first + 1, int(np.searchsorted(ends, before + ASKED_TOGETHER, side="right")))
        yield table.slice(first, end - first)
        first = end


def fit_on(chain: Chain, answered: pa.Table, gold: Gold) -> Link:
    """Fit a link on documents whose candidates all have answers.

    Raises:
        ConfigError: If no answer could be read.
    """
    classes = chain.label_set.classes
    candidates = Candidates.of(answered["candidates"].combine_chunks(), classes)
    answers = Answers.of(answered["answers"].combine_chunks(), classes)
    if not (answers.said != UNANSWERED).any():
        raise ConfigError(
            f"{chain.llm.model}: none of {len(candidates):,} answers could be read; see the log, "
            "and choose an instruction-tuned model"
        )
    counts = document_counts(gold, entity_triples(chain.decide_locally(answered)["entities"]))
    true, false, missed = (int(value) for value in counts.sum(axis=0))
    counted = 2 * true + false + missed
    return fit_link(
        candidates,
        answers,
        classes_of(answered, gold, classes),
        classes=classes,
        f1=2 * true / max(1, counted),
        num_counted=counted,
    )


def classes_of(table: pa.Table, gold: Gold, classes: tuple[str, ...]) -> IntArray:
    """Class of each candidate, 0 where gold has no entity there. Shape (N,)."""
    found = []
    for candidates, golden in zip(table["candidates"].to_pylist(), gold, strict=True):
        label_of = {(start, end): label for start, end, label in golden}
        found += [label_of.get((one["start"], one["end"])) for one in candidates]
    return np.array([0 if label is None else classes.index(label) for label in found], np.int64)
