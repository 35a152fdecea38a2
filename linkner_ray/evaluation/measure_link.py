"""A link is measured: an LLM is asked about dev's candidates, and its answers are held to gold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from linkner_ray.config import LinkConfig, LlmConfig, RoutingConfig, SentencesConfig
from linkner_ray.corpora.scores import document_counts
from linkner_ray.corpora.tables import corpus_documents
from linkner_ray.errors import ConfigError
from linkner_ray.evaluation.judge import Gold, entity_triples
from linkner_ray.evaluation.plan import LabelledSet, load_labelled_set
from linkner_ray.evaluation.trials import Trial, best_of, describe_trials, try_ways
from linkner_ray.evaluation.ways_of_asking import Asker, costs_of, describe_costs, ways_of
from linkner_ray.linking.judged import UNANSWERED, Answers, Candidates, IntArray
from linkner_ray.linking.link import Link, fit_link
from linkner_ray.llm.model_identity import check_replay_source, with_known_revision
from linkner_ray.logs.progress import track
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.schemas import list_offsets
from linkner_ray.spanner.checkpoint import CheckpointParts, local_checkpoint, read_parts
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.link_source import FORMAT, link_bytes, link_identity
from linkner_ray.storage import Folder

UNIT_SENTENCES = 512

MIN_TRIED = 100
"""Candidates by which ways of asking are compared, at least."""

TRIED_SHARE = 0.2
"""Of the questions, by which ways of asking are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPlan:
    """What is to be measured, read and checked."""

    config: LinkConfig
    checkpoint: CheckpointParts
    dev: LabelledSet
    ways: Sequence[LlmConfig]
    """In which the LLM can be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLink:
    """A link, and the ways of asking that were compared before; none if there was one alone."""

    link: Link
    llm: LlmConfig
    """As it was asked."""

    trials: Sequence[Trial]


def plan_link(config: LinkConfig) -> LinkPlan:
    """Check all that can be wrong before a model is loaded.

    Raises:
        ConfigError: If there is no checkpoint, dev set or corpus of demonstrations, or the output
            is a file of others.
        DataError: If dev or the corpus is malformed.
    """
    _check_output(config.output)
    checkpoint = read_parts(local_checkpoint(config.recognize.checkpoint))
    check_replay_source(config.llm, config.cache)
    recognize = config.recognize.with_dtype(0.0)
    config = config.model_copy(
        update={"recognize": recognize, "llm": with_known_revision(config.llm)}
    )
    ways = ways_of(config.llm, config.recognize, checkpoint.label_set)
    for llm in ways:
        link_identity(config.recognize, llm, checkpoint.label_set)
    dev = load_labelled_set(config.dev, checkpoint)
    return LinkPlan(config=config, checkpoint=checkpoint, dev=dev, ways=ways)


def measure_link(plan: LinkPlan, say: Callable[[str], None]) -> MeasuredLink:
    """Ask the LLM about dev's candidates in the best way, fit a link, and write it.

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
        routing=RoutingConfig(threshold=0.0, per_name=None),
        sentences=SentencesConfig(),
        cache=config.cache,
    )
    recognized = recognize_set(chain, plan.dev)
    rows, later = _sample(recognized, config, tried=len(plan.ways) > 1)
    table = recognized.take(rows)
    gold = [plan.dev.gold[row] for row in rows]
    with Asker(chain) as asker:
        costs = costs_of(asker, plan.ways, table)
        rest = recognized.take(later)
        say(describe_costs(costs, table, rest, of=recognized.num_rows, llm=config.llm))
        trials = try_ways(asker, costs, table, classes_of(table, gold, label_set.classes))
        best = best_of(trials)
        answered = best.table
        if rest.num_rows:
            answered = pa.concat_tables([answered, asker.ask(best.llm, rest)])
    rows = np.concatenate([rows, later])
    order = np.argsort(rows)
    link = fit_on(
        replace(chain, llm=best.llm),
        answered.take(order).combine_chunks(),
        [plan.dev.gold[row] for row in rows[order]],
    )
    identity = link_identity(config.recognize, best.llm, label_set)
    compared = trials if len(plan.ways) > 1 else []
    folder, name = _file(config.output)
    content = link_bytes(
        link, identity, llm=best.llm, compared=[trial.to_json() for trial in compared]
    )
    folder.write_whole(name, content)
    return MeasuredLink(link=link, llm=best.llm, trials=compared)


def describe_link(measured: MeasuredLink) -> str:
    """What was measured, as Markdown."""
    link = measured.link
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
    parts = [
        f"{link.num_answers:,} answers; local F1 {100 * link.f1:.2f}. The answers add {gain}: "
        f"{verdict}.",
        markdown_table(rows),
    ]
    if measured.trials:
        parts.insert(0, describe_trials(measured.trials, chosen=measured.llm))
    if not measured.llm.demonstrations.corpus and measured.llm.backend != "replay":
        parts.append("With llm.demonstrations.corpus=FILE, demonstrations are compared, too.")
    return "\n\n".join(parts)


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


def _sample(recognized: pa.Table, config: LinkConfig, *, tried: bool) -> tuple[IntArray, IntArray]:
    """Rows of sentences, any that the seed draws, until they have as many candidates as wanted.

    Returns:
        Those by which ways of asking are compared, or if they are not all; and the others.
    """
    sizes = np.diff(list_offsets(recognized["candidates"].combine_chunks()))
    order = np.random.default_rng(config.seed).permutation(len(sizes))
    wanted = [config.questions, max(MIN_TRIED, round(TRIED_SHARE * config.questions))]
    needed, first = np.searchsorted(sizes[order].cumsum(), wanted) + 1
    if not tried or first > needed:
        first = needed
    return np.sort(order[:first]), np.sort(order[first:needed])


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
