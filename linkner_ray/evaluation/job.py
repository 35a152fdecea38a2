"""The offline benchmark: labelled sets through the production stages, then scored."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import EvaluateConfig, Uncertainty
from linkner_ray.corpora.tables import corpus_documents
from linkner_ray.evaluation.as_json import as_json
from linkner_ray.evaluation.candidates import predicted_uncertainty
from linkner_ray.evaluation.curves import with_uncertainty
from linkner_ray.evaluation.detection import FloatArray, OodDetection, detect_ood
from linkner_ray.evaluation.error_page import SetErrors, find_errors, render_errors
from linkner_ray.evaluation.flips import with_total
from linkner_ray.evaluation.plan import FORMAT, METRICS, EvaluationPlan, LabelledSet
from linkner_ray.evaluation.plots import evaluation_pictures
from linkner_ray.evaluation.recorded import extraction_f1
from linkner_ray.evaluation.report import Ood, describe_evaluation
from linkner_ray.evaluation.set_result import Judged, SetResult, judge_set
from linkner_ray.evaluation.staged import run_stages
from linkner_ray.labels import LabelSet
from linkner_ray.linking.link import Link
from linkner_ray.linking.summary import describe_summary, summary_of
from linkner_ray.logs.progress import track
from linkner_ray.reporting.html_page import render_page
from linkner_ray.runs.counters import answers_problem
from linkner_ray.runs.folder import parquet_bytes
from linkner_ray.schemas import ASKED_ROUTES, GOLD, PREDICTIONS
from linkner_ray.spanner.calibration.thresholds import Thresholds
from linkner_ray.spanner.checkpoint import CheckpointParts, missing_estimates
from linkner_ray.stages.chain import Chain
from linkner_ray.storage import Folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Results of an evaluation.

    Attributes:
        results: Of each set, in order.
        ood: How well uncertainty tells each set but the first from it, by set and estimate.
        seconds: Of each stage, summed over units and passes, and `all` on the wall.
        notes: Sentences for the reader.
        problems: Limits of `errors` that were passed.
        threshold_for: What the config named its threshold by; None where it gave the number.
    """

    results: tuple[SetResult, ...]
    ood: Ood
    seconds: Mapping[str, float]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    threshold_for: str | None


def evaluate(plan: EvaluationPlan) -> Evaluation:
    """Score a checkpoint, with or without an LLM, on labelled sets.

    Gold stays here: the stages get documents with sentences and nothing else. Writes
    `metrics.json`, `report.md` and `.html`, `errors.html`, `plots/` as PNG and SVG, and the
    predictions of each set to `output.path`. The first set counts as like training; each other one
    is held against it.
    """
    config, checkpoint, sets = plan.config, plan.checkpoint, plan.sets
    output = Folder.at(config.output.path)
    units = [_units(loaded, config.unit_sentences) for loaded in sets]
    started = time.perf_counter()
    chain = Chain.of(config, checkpoint.label_set)
    estimates, notes = _estimates(config, checkpoint)
    dev_thresholds, said = _dev_thresholds(config, checkpoint)
    staged = run_stages([unit for own in units for unit in own], chain, config, estimates)
    results, pages, unsure = [], [], []
    output.write_whole(METRICS, json.dumps({"format": FORMAT}).encode())  # ours from now on
    first = 0
    for loaded, own in track(zip(sets, units, strict=True), "sets scored", len(sets)):
        rows = slice(first, first + len(own))
        first += len(own)
        linked = pa.concat_tables(staged.linked[rows])
        judged = Judged(
            local=chain.decide_locally(linked),
            linked=linked,
            answered=pa.concat_tables(staged.answered[rows]),
            estimates={n: np.concatenate(v[rows]) for n, v in staged.estimates.items()},
        )
        results.append(_judge(loaded, judged, plan, chain, dev_thresholds))
        predictions = _predictions(loaded, judged)
        output.write_whole(f"predictions/{loaded.name}.parquet", parquet_bytes(predictions))
        confusion, classes = results[-1].linked.confusion, checkpoint.label_set.classes
        pages.append(find_errors(loaded.name, predictions, confusion, classes))
        unsure.append(_predicted_by_estimate(judged))
    evaluation = Evaluation(
        results=tuple(results),
        ood=_ood([loaded.name for loaded in sets], unsure),
        seconds={**staged.seconds, "all": time.perf_counter() - started},
        notes=(*_link_notes(config, chain.link, results), *notes, *said),
        problems=_problems(staged.answered, config.errors.max_failed_answers_share),
        threshold_for=plan.threshold_for,
    )
    _write(output, config, evaluation, pages, checkpoint.label_set)
    return evaluation


def _units(loaded: LabelledSet, size: int) -> list[pa.Table]:
    """The documents of a set without its gold."""
    documents, _ = corpus_documents(loaded.sentences, ids_prefix=loaded.name)
    return [documents.slice(first, size) for first in range(0, documents.num_rows, size)]


def _estimates(
    config: EvaluateConfig, checkpoint: CheckpointParts
) -> tuple[list[Uncertainty], list[str]]:
    """Estimates to try besides the run's own, and why others are left out."""
    wanted = [name for name in config.study.estimates if name != config.recognize.uncertainty]
    missing = missing_estimates(loss=checkpoint.loss, dropout=checkpoint.model.dropout)
    notes = [f"The estimate {n} is left out: {missing[n]}." for n in wanted if n in missing]
    return [name for name in wanted if name not in missing], notes


def _dev_thresholds(
    config: EvaluateConfig, checkpoint: CheckpointParts
) -> tuple[dict[str, float], list[str]]:
    """Threshold of each estimate that asks `study.dev_percent` of dev's candidates."""
    percent = config.study.dev_percent
    kept = Thresholds.read(checkpoint.folder)
    if kept is None:
        return {}, [
            "What dev would choose is not known: the checkpoint keeps no thresholds; "
            "`linkner calibrate` makes them."
        ]
    chosen = {n: e.asked[percent] for n, e in kept.estimates.items() if percent in e.asked}
    return chosen, [f"What dev chose asks {percent} % of dev's candidates."]


def _link_notes(
    config: EvaluateConfig, link: Link | None, results: Sequence[SetResult]
) -> tuple[str, ...]:
    """What the link of a run says, and what share of each set it asks about."""
    if link is None:
        return ()
    said = describe_summary(config.shown()["routing"]["link"], summary_of(link))
    if not link.asks:
        return (said,)
    asked = ", ".join(f"{result.routed_share:.1%} of {result.name}" for result in results)
    return (f"{said} Asked about, from routing.min_gain = {config.routing.min_gain:g}: {asked}.",)


def _problems(answered: Sequence[pa.Table], limit: float) -> tuple[str, ...]:
    """A sentence on missing answers over all sets, where they are too many."""
    verdicts = Counter(
        verdict
        for table in answered
        for route, verdict in zip(
            pc.list_flatten(table["routes"]).to_pylist(),
            pc.struct_field(pc.list_flatten(table["answers"]), "verdict").to_pylist(),
            strict=True,
        )
        if route in ASKED_ROUTES
    )
    problem = answers_problem(
        verdicts.total(),
        failed=verdicts["failed"],
        unreadable=verdicts["unreadable"],
        limit=limit,
    )
    return (problem,) if problem else ()


def _judge(
    loaded: LabelledSet,
    judged: Judged,
    plan: EvaluationPlan,
    chain: Chain,
    dev_thresholds: Mapping[str, float],
) -> SetResult:
    result = judge_set(
        loaded,
        judged,
        study=plan.config.study,
        dev_thresholds=dev_thresholds,
        fuse=chain.fuse(),
        novelty=plan.checkpoint.novelty,
    )
    replay_path = plan.config.llm.replay_path
    if replay_path is None:
        return result
    alone = extraction_f1(replay_path, loaded.sentences)
    return replace(result, study=replace(result.study, llm_extraction_f1=alone))


def _predictions(loaded: LabelledSet, judged: Judged) -> pa.Table:
    """Rows of `schemas.PREDICTIONS`."""
    gold = [
        [dict(zip(("start", "end", "label"), entity, strict=True)) for entity in row]
        for row in loaded.gold
    ]
    linked = judged.linked
    columns = {
        "gold": pa.array(gold, pa.list_(GOLD)),
        "local": judged.local["entities"],
        **{n: linked[n] for n in ("doc_id", "text", "entities", "candidates", "routes", "answers")},
    }
    return pa.table({name: columns[name] for name in PREDICTIONS.names}, schema=PREDICTIONS)


def _predicted_by_estimate(judged: Judged) -> dict[str, FloatArray]:
    return {
        name: predicted_uncertainty(with_uncertainty(judged.linked, values)["candidates"])
        for name, values in judged.estimates.items()
    }


def _ood(
    names: Sequence[str], unsure: Sequence[Mapping[str, FloatArray]]
) -> dict[str, dict[str, OodDetection]]:
    inside = unsure[0]
    return {
        name: {estimate: detect_ood(inside[estimate], found[estimate]) for estimate in inside}
        for name, found in zip(names[1:], unsure[1:], strict=True)
    }


def _write(
    output: Folder,
    config: EvaluateConfig,
    evaluation: Evaluation,
    pages: Sequence[SetErrors],
    label_set: LabelSet,
) -> None:
    results, ood = evaluation.results, evaluation.ood
    pictures = evaluation_pictures(results)
    for name, content in pictures.items():
        output.write_whole(f"plots/{name}", content)
    metrics = {
        "format": FORMAT,
        "config": config.shown(),
        "threshold_for": evaluation.threshold_for,
        "seconds": evaluation.seconds,
        "notes": evaluation.notes,
        "problems": evaluation.problems,
        "sets": [
            replace(one, routed=with_total(one.routed), audited=with_total(one.audited))
            for one in results
        ],
        "ood": ood,
    }
    output.write_whole(METRICS, (json.dumps(as_json(metrics), indent=2) + "\n").encode())
    output.write_whole("errors.html", render_errors(pages, label_set.ids).encode())
    notes = (*(f"**{problem}.**" for problem in evaluation.problems), *evaluation.notes)
    report = describe_evaluation(results, ood, notes)
    output.write_whole("report.md", report.encode("utf-8", errors="backslashreplace"))
    drawn = {
        f"plots/{name.removesuffix('.svg')}": content
        for name, content in pictures.items()
        if name.endswith(".svg")
    }
    page = render_page(report, title="Evaluation", pictures=drawn)
    output.write_whole("report.html", page.encode("utf-8", errors="backslashreplace"))
