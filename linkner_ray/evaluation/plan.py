"""The plan of an evaluation, made before Ray starts and a model library is imported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from linkner_ray.config import EvaluateConfig, EvaluateSet
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.labelled import LabelledSentence, unreachable_spans
from linkner_ray.corpora.mapping import map_labels
from linkner_ray.corpora.scores import Entity
from linkner_ray.corpora.tables import corpus_documents
from linkner_ray.errors import ConfigError
from linkner_ray.extract.plan import check_models, resolve_models
from linkner_ray.labels import load_label_map
from linkner_ray.spanner.checkpoint import CheckpointParts, local_checkpoint, read_parts
from linkner_ray.stages.demonstration_source import corpus_digest
from linkner_ray.stages.link_source import link_of
from linkner_ray.storage import Folder

METRICS = "metrics.json"
FORMAT = "linkner-evaluation"
"""How `metrics.json` says that the folder is an evaluation's."""

_WRITTEN_NAMES = frozenset(
    {METRICS, "report.md", "report.html", "errors.html", "plots", "predictions"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSet:
    """A labelled set, its gold apart from what the stages get.

    Attributes:
        name: What its files are called.
        sentences: As they were read, in the checkpoint's labels.
        gold: Entities of each sentence as characters of its text.
        num_unreachable: Gold entities wider than the model's maximum; they count as missed.
        renamed: Entities by "label -> label here", where a label map was used.
        dropped: Entities by label that the map takes out of gold.
    """

    name: str
    sentences: Sequence[LabelledSentence]
    gold: Sequence[Sequence[Entity]]
    num_unreachable: int
    renamed: Mapping[str, int]
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """A checkpoint and the sets it is scored on.

    Attributes:
        config: With its threshold as a number.
        threshold_for: What the config named its threshold by; None where it gave the number.
        checkpoint: All of it but the weights.
        sets: In the order of the config.
    """

    config: EvaluateConfig
    threshold_for: str | None
    checkpoint: CheckpointParts
    sets: Sequence[LabelledSet]


def plan_evaluation(config: EvaluateConfig) -> EvaluationPlan:
    """Read the labelled sets and check all that can be wrong before a model is loaded.

    Raises:
        ConfigError: If there is no checkpoint, a label map leads elsewhere than to its labels, the
            output holds something else than an evaluation, or there is nothing to replay.
        DataError: If a set is malformed, or has a label the checkpoint does not know.
    """
    _check_output(config.output.path)
    if not config.recognize.checkpoint:
        raise ConfigError("recognize.checkpoint is not set; give a folder written by `train`")
    threshold_for = config.routing.threshold_for
    config = resolve_models(config)
    checkpoint = read_parts(local_checkpoint(config.recognize.checkpoint))
    check_models(config, checkpoint)
    corpus_digest(config.llm)
    link_of(config.routing, config.recognize, config.llm, checkpoint.label_set)
    return EvaluationPlan(
        config=config,
        threshold_for=threshold_for,
        checkpoint=checkpoint,
        sets=[load_labelled_set(entry, checkpoint) for entry in config.sets],
    )


def _check_output(url: str) -> None:
    """Check that nothing is overwritten but an earlier evaluation; nothing is written.

    Raises:
        ConfigError: If the folder holds files under names of an evaluation that are of none.
    """
    output = Folder.at(url)
    output.check_writable()
    found = sorted(_WRITTEN_NAMES.intersection(output.entries()))
    mark = f'"format": "{FORMAT}"'.encode()
    if found and not (METRICS in found and mark in output.read_bytes(METRICS)):
        raise ConfigError(
            f"output.path = {url}: holds {', '.join(found)}, and no {METRICS} says that an "
            "evaluation wrote them; choose another folder, or move them away"
        )


def load_labelled_set(entry: EvaluateSet, checkpoint: CheckpointParts) -> LabelledSet:
    """Read a labelled set in the labels of a checkpoint.

    Raises:
        ConfigError: If there is no such file, or its label map leads elsewhere.
        DataError: If it is malformed, or has a label the checkpoint does not know.
    """
    renamed: dict[str, int] = {}
    dropped: dict[str, int] = {}
    if entry.label_map is None:
        corpus = read_corpus(entry.path, format=entry.format, label_set=checkpoint.label_set)
    else:
        label_map = load_label_map(entry.label_map)
        known = checkpoint.label_set.ids
        if unknown := sorted({t for t in label_map.targets.values() if t} - set(known)):
            raise ConfigError(
                f"set '{entry.name}': label map {label_map.name} leads to {unknown}, labels of the "
                f"checkpoint are {list(known)}; correct the map"
            )
        source = read_corpus(entry.path, format=entry.format, label_set=label_map.source)
        mapped = map_labels(source, label_map)
        corpus, dropped = mapped.corpus, dict(mapped.dropped)
        renamed = {f"{old} -> {new}": count for (old, new), count in mapped.renamed.items()}
    _, gold = corpus_documents(corpus.sentences, ids_prefix=entry.name)
    return LabelledSet(
        name=entry.name,
        sentences=corpus.sentences,
        gold=[[(one.start, one.end, one.label) for one in row] for row in gold],
        num_unreachable=unreachable_spans(corpus.sentences, checkpoint.model.max_width),
        renamed=renamed,
        dropped=dropped,
    )
