"""All scores of one labelled set."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import StudyConfig
from linkner_ray.corpora.scores import Counts, Entity, MacroAverage, Scores, score_entities
from linkner_ray.evaluation.bootstrap import Interval
from linkner_ray.evaluation.candidates import CandidateFigures, judge_candidates
from linkner_ray.evaluation.curves import with_uncertainty
from linkner_ray.evaluation.detection import ErrorDetection, FloatArray
from linkner_ray.evaluation.flips import Flips, as_if_routed, count_flips
from linkner_ray.evaluation.judge import Judge, Point, entity_triples
from linkner_ray.evaluation.matching import MatchScore, match_scores, matches_by_label
from linkner_ray.evaluation.plan import LabelledSet
from linkner_ray.evaluation.slices import (
    SentenceTokens,
    SourceScore,
    by_length,
    by_novelty,
    by_source,
    confusion,
)
from linkner_ray.evaluation.study import Study, study_set
from linkner_ray.labels import NON_ENTITY
from linkner_ray.runs.counters import VERDICTS, count_costs
from linkner_ray.spanner.calibration.novelty import NoveltyFeatures
from linkner_ray.stages.fuse_entities import FuseEntities


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the answers of one set took.

    Attributes:
        num_questions: Distinct questions, audits included.
        num_asked: Of these, asked in this run.
        num_from_cache: Of these, kept from an earlier one.
        prompt_tokens: Of those asked in this run.
        gain_per_1000: Points of F1 for each 1,000 questions; None without questions.
    """

    num_questions: int
    num_asked: int
    num_from_cache: int
    prompt_tokens: int
    gain_per_1000: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemScores:
    """Scores of one system, local or linked.

    Attributes:
        strict: By label.
        macro: Means over labels.
        interval: Bounds of 95 % of strict micro F1, bootstrap over sentences.
        matches: By kind of match, as `matching.KINDS`.
        matches_by_label: The same by label.
        seen: Strict counts by `slices.SEEN`; empty if the checkpoint does not know its training.
        lengths: Strict counts by number of tokens.
        confusion: By (gold label, predicted label).
    """

    strict: Scores
    macro: MacroAverage
    interval: tuple[float, float]
    matches: Mapping[str, MatchScore]
    matches_by_label: Mapping[str, Mapping[str, MatchScore]]
    seen: Mapping[str, Counts]
    lengths: Mapping[str, Counts]
    confusion: Mapping[tuple[str, str], int]

    @property
    def micro(self) -> Counts:
        """All labels together."""
        return self.strict.micro


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResult:
    """Scores of one labelled set."""

    name: str
    num_sentences: int
    num_gold: int
    num_unreachable: int
    """Gold entities longer than the model's maximum width; they count as missed."""

    renamed: Mapping[str, int]
    dropped: Mapping[str, int]
    num_candidates: int
    num_routed: int
    candidates: CandidateFigures
    """Recall, calibration and error detection of the local model's candidates."""

    detections: Mapping[str, ErrorDetection]
    """Error detection by estimate, the run's own first."""

    verdicts: Mapping[str, int]
    """Routed candidates by the verdict of their answer."""

    local: SystemScores
    """The local model alone, on the same candidates."""

    linked: SystemScores
    """Local and LLM together."""

    sources: Mapping[str, SourceScore]
    """Entities of the linked system by who decided them."""

    gain: Interval
    """Linked F1 less local F1."""

    cost: Cost
    study: Study
    routed: Mapping[str, Flips]
    """What asking did to the routed candidates, by local label."""

    audited: Mapping[str, Flips]
    """What asking would have done to the audited ones."""

    @property
    def routed_share(self) -> float:
        """Routed candidates as a share of all, in [0, 1]."""
        return self.num_routed / max(1, self.num_candidates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A set after the stages, in the forms that scoring needs.

    Attributes:
        local: As the local model alone has it.
        linked: As the run has it.
        answered: Candidates with every answer that is known, asked by the run or not.
        estimates: Uncertainty of every candidate by estimate, the run's own first.
    """

    local: pa.Table
    linked: pa.Table
    answered: pa.Table
    estimates: Mapping[str, FloatArray]


def judge_set(  # noqa: PLR0913 - a set, and what decided its output
    labelled: LabelledSet,
    judged: Judged,
    *,
    study: StudyConfig,
    dev_thresholds: Mapping[str, float],
    fuse: FuseEntities,
    novelty: NoveltyFeatures | None,
) -> SetResult:
    """Hold a set against its gold."""
    gold, linked = labelled.gold, judged.linked
    tokens = SentenceTokens(labelled.sentences)
    local_entities, linked_entities = (
        entity_triples(table["entities"]) for table in (judged.local, linked)
    )
    judge = Judge(gold, local_entities, samples=study.resamples)
    point = judge.point(linked)
    routes = pc.list_flatten(linked["routes"]).to_pylist()
    return SetResult(
        name=labelled.name,
        num_sentences=linked.num_rows,
        num_gold=sum(map(len, gold)),
        num_unreachable=labelled.num_unreachable,
        renamed=labelled.renamed,
        dropped=labelled.dropped,
        num_candidates=len(routes),
        num_routed=routes.count("llm"),
        candidates=judge_candidates(linked["candidates"], gold),
        detections={
            name: judge_candidates(with_uncertainty(linked, values)["candidates"], gold).detection
            for name, values in judged.estimates.items()
        },
        verdicts=_count_verdicts(linked, routes),
        local=_system_scores(gold, local_entities, tokens, judge, novelty),
        linked=_system_scores(gold, linked_entities, tokens, judge, novelty),
        sources=by_source(linked["entities"], gold),
        gain=point.gain,
        cost=_cost(point, linked),
        study=study_set(
            judged.answered,
            gold,
            estimates=judged.estimates,
            dev_thresholds=dev_thresholds,
            config=study,
            classes=fuse.classes,
            link=fuse.link,
            judge=judge,
        ),
        routed=count_flips(linked, gold),
        audited=count_flips(as_if_routed(linked, fuse), gold, route="audit"),
    )


def _cost(point: Point, linked: pa.Table) -> Cost:
    costs = count_costs(linked)
    return Cost(
        num_questions=point.num_questions,
        num_asked=costs["questions_asked"],
        num_from_cache=costs["questions_from_cache"],
        prompt_tokens=costs["prompt_tokens_asked"],
        gain_per_1000=point.gain_per_1000,
    )


def _count_verdicts(linked: pa.Table, routes: Sequence[str]) -> dict[str, int]:
    """Verdicts on the routed candidates."""
    said = pc.struct_field(linked["answers"].combine_chunks().flatten(), "verdict").to_pylist()
    verdicts = Counter(v for v, route in zip(said, routes, strict=True) if route == "llm")
    return {verdict: verdicts[verdict] for verdict in VERDICTS}


def _system_scores(
    gold: Sequence[Collection[Entity]],
    found: Sequence[Collection[Entity]],
    tokens: SentenceTokens,
    judge: Judge,
    novelty: NoveltyFeatures | None,
) -> SystemScores:
    strict = score_entities(gold, found)
    return SystemScores(
        strict=strict,
        macro=strict.macro,
        interval=judge.interval(found),
        matches=match_scores(gold, found),
        matches_by_label=matches_by_label(gold, found),
        seen={} if novelty is None else by_novelty(gold, found, tokens, novelty),
        lengths=by_length(gold, found, tokens),
        confusion=confusion(gold, found, NON_ENTITY),
    )
