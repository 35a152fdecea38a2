"""The whole job on the demo's world, with the same code as on a cluster."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from examples.demo import OWN_LLM
from examples.demo.scoring import read_pages, score_pages
from examples.demo.world import DemoWorld, make_demo
from linkner_ray import spanner, training
from linkner_ray.config import ExtractConfig, LlmConfig, TrainConfig
from linkner_ray.errors import ConfigError, StartupError
from linkner_ray.extract.job import extract
from linkner_ray.extract.plan import Plan, plan_extraction
from linkner_ray.extract.progress import LineView
from linkner_ray.extract.ray_start import start_ray
from linkner_ray.extract.report import Context, write_run_report
from linkner_ray.extract.result import ExtractionResult
from linkner_ray.labels import load_label_set
from linkner_ray.reporting.preview_page import render_preview
from linkner_ray.reporting.run_report import ReportScores
from linkner_ray.runs.counters import VERDICTS, routed_share
from linkner_ray.training.job import train
from linkner_ray.training.plan import plan_training

SEED = 0
LABEL_SET = "demo"
EPOCHS = 2
THRESHOLD = 0.2
"""Asks about a third of the candidates; half of them, from 0.1 up, gains one point of F1 more."""

NUM_PREVIEWED = 12

LIST_TIMEOUT_S = 30.0
"""Seconds for an endpoint to list its models."""

NOTE = (
    "The demo's corpus, pages and LLM are made for it. Its LLM is tiny and knows nothing outside "
    "the demo; the scores show that the parts work together, not how good LinkNER is."
)
FOREIGN_NOTE = (
    "The demo's corpus and pages are made by the demo; the LLM is {llm}. The scores are of the "
    "demo's pages alone."
)


@dataclass
class _Clock:
    """Seconds of each step, told as they happen."""

    progress: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        self.progress(f"==> {name}: {what}")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)
        self.progress(f"    {self.seconds[name]:.1f} s")


def run_demo(
    output: str, *, llm: str = "", encoder: str = "", progress: Callable[[str], None]
) -> str:
    """Make the world, train the local model or take an earlier demo's, extract, score, show.

    Args:
        output: Folder for the result; an earlier demo's is replaced.
        llm: Hugging Face id, folder, or endpoint URL; empty for the demo's own LLM.
        encoder: Hugging Face id or folder; empty for all-MiniLM-L6-v2.
        progress: Told a line now and then.

    Returns:
        A short table of what came out.

    Raises:
        ConfigError: If the output folder holds something else.
        StartupError: If a model or engine does not start.
    """
    clock = _Clock(progress)
    cache = Path(os.environ.get("LINKNER_CACHE", ".cache/demo")).absolute()
    _clear(Path(output), cache / "world" / "crawl")
    with clock.step("world", "corpus, crawl shards and gold"):
        world = make_demo(cache / "world", seed=SEED)
    llm_config = _llm_config(llm)
    with clock.step("ray", "start on this machine"):
        start_ray()
    checkpoint = _local_model(world, encoder or "all-MiniLM-L6-v2", cache, clock)
    plan = plan_extraction(_extract_config(world, checkpoint, llm_config, output))
    with clock.step("extract", f"{world.num_pages} pages, Ray Data and the LLM"):
        result = extract(plan, view=LineView(lambda line: progress(f"    {line}")))
    with clock.step("report", "scores, report.html, preview.html"):
        scores = score_pages(plan, world.gold)
        _write_preview(plan, Path(output), world)
    note = FOREIGN_NOTE.format(llm=llm) if llm else NOTE
    context = Context(title="Demo", seconds=clock.seconds, scores=[scores], notes=(note,))
    write_run_report(plan, result, context)
    summary = _summary(result, scores, clock.seconds)
    (Path(output) / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return _table(summary, scores, output)


def _clear(output: Path, crawl: Path) -> None:
    """Remove an earlier demo's output, and nothing else, such as that of another run."""
    if not output.exists() or not any(output.iterdir()):
        return
    try:
        read = json.loads((output / "_run.json").read_bytes())["config"]["input"]["paths"]
    except (OSError, ValueError, LookupError, TypeError):
        read = None
    if read != [str(crawl)]:
        raise ConfigError(
            f"{output} is not an earlier demo's output: its _run.json does not say that {crawl} "
            "was read; choose another --output"
        )
    shutil.rmtree(output)


def _llm_config(llm: str) -> LlmConfig:
    if llm.startswith(("http://", "https://")):
        return LlmConfig(backend="openai", base_url=llm, model=_served_model(llm))
    if llm:
        return LlmConfig(backend="vllm", model=llm)
    return LlmConfig(
        backend="vllm", model=str(OWN_LLM), dtype="float32", enforce_eager=True, num_threads=1
    )


def _served_model(base_url: str) -> str:
    """Name of the first model an endpoint serves."""
    from openai import OpenAI, OpenAIError

    client = OpenAI(
        base_url=base_url,
        api_key=os.environ.get("OPENAI_API_KEY", "EMPTY"),
        timeout=LIST_TIMEOUT_S,  # its own is 600 s, three times
        max_retries=0,
    )
    try:
        models = client.models.list().data
    except OpenAIError as error:
        raise StartupError(f"{base_url} does not list its models: {error}") from error
    if not models:
        raise StartupError(f"{base_url} serves no model")
    return models[0].id


def _local_model(world: DemoWorld, encoder: str, cache: Path, clock: _Clock) -> str:
    """Train the local model, unless the cache has the very same; give its folder."""
    config = _train_config(world, encoder, cache)
    checkpoint = Path(config.output.checkpoint)
    if not (checkpoint / "config.json").exists():
        with clock.step("train", f"SpanNER on {encoder} with Ray Train (kept for later runs)"):
            result = train(plan_training(config))
            clock.progress(f"    dev F1 {result.best.f1:.4f} after epoch {result.best.epoch}")
    return str(checkpoint)


def _train_config(world: DemoWorld, encoder: str, cache: Path) -> TrainConfig:
    model = {"encoder": encoder, "max_width": 8}
    course = {"epochs": EPOCHS, "seed": SEED}
    name = _name_of(world, model, course)
    return TrainConfig.model_validate(
        {
            "corpus": {"train": str(world.train), "dev": str(world.dev), "label_set": LABEL_SET},
            "model": model,
            "training": course,
            "output": {
                "checkpoint": str(cache / f"spanner-{name}"), "storage": str(cache / "training"),
            },
            # Ray gives a worker of one CPU one thread, and nobody else is at work here.
            "workers": {"cpus": 1.0, "num_threads": min(torch.get_num_threads(), 8)},
        }
    )  # fmt: skip


def _name_of(world: DemoWorld, *settings: Mapping[str, Any]) -> str:
    """Name a checkpoint by the content of what decides it.

    That is the settings of model and training, both corpus files, the label set, and the code that
    trains and is trained.
    """
    labels = load_label_set(LABEL_SET).digest
    digest = hashlib.blake2b(json.dumps([*settings, labels]).encode(), digest_size=6)
    code = [path for part in (spanner, training) for path in sorted(_folder(part).rglob("*.py"))]
    for path in (world.train, world.dev, *code):
        content = path.read_bytes()
        digest.update(b"%d " % len(content) + content)
    return digest.hexdigest()


def _folder(package: ModuleType) -> Path:
    return Path(package.__path__[0])


def _extract_config(
    world: DemoWorld, checkpoint: str, llm: LlmConfig, output: str
) -> ExtractConfig:
    return ExtractConfig.model_validate(
        {
            "input": {"paths": [str(world.crawl)], "unit_documents": 32},
            "output": {"path": output, "keep_text": True, "keep_candidates": True},
            "recognize": {"checkpoint": checkpoint, "num_threads": 1},
            "routing": {"threshold": THRESHOLD},
            "llm": llm,
        }
    )


def _write_preview(plan: Plan, output: Path, world: DemoWorld) -> None:
    labelled = [json.loads(line)["doc_id"] for line in world.gold.read_bytes().splitlines()]
    pages = read_pages(output, labelled[:NUM_PREVIEWED])
    page = render_preview(
        pages.to_pylist(),
        plan.label_set.ids,
        title="Demo pages",
        notes=("The first labelled pages.",),
    )
    (output / "preview.html").write_text(page, encoding="utf-8")


def _summary(
    result: ExtractionResult, scores: ReportScores, seconds: Mapping[str, float]
) -> dict[str, Any]:
    totals = result.totals
    return {
        "pages": totals["documents_read"],
        "characters": totals["characters_total"],
        "spans": totals["candidates_predicted"] + totals["candidates_near_miss"],
        "entities": totals["entities"],
        "routed_share": round(routed_share(totals), 4),
        "questions": totals["questions"],
        "llm_verdicts": {verdict: totals[f"verdict_{verdict}"] for verdict in VERDICTS},
        "f1_local": round(scores.local.micro.f1, 4),
        "f1_linked": round(scores.linked.micro.f1, 4),
        "labelled_entities": scores.local.micro.support,
        "seconds": {**seconds, "total": round(sum(seconds.values()), 1)},
    }


def _table(summary: Mapping[str, Any], scores: ReportScores, output: str) -> str:
    verdicts, seconds = summary["llm_verdicts"], summary["seconds"]
    rows = {
        "pages": f"{summary['pages']:,}",
        "characters": f"{summary['characters']:,}",
        "spans": f"{summary['spans']:,} candidates, {summary['entities']:,} entities",
        "routed share": f"{summary['routed_share']:.1%}, {summary['questions']:,} questions",
        "LLM verdicts": ", ".join(f"{count:,} {name}" for name, count in verdicts.items() if count),
        "local F1": f"{summary['f1_local']:.4f}  on {scores.name}",
        "linked F1": f"{summary['f1_linked']:.4f}  local model and LLM together",
        "seconds": ", ".join(f"{name} {value:g}" for name, value in seconds.items()),
    }
    lines = [f"{name:<14} {value}" for name, value in rows.items()]
    return "\n".join(["", *lines, "", f"look at {output}/report.html and {output}/preview.html"])
