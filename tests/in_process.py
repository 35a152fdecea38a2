"""The steps of a run one after the other in this process: all of it but Ray."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

import linkner_ray.extraction
from linkner_ray.extraction import extract, plan_extraction
from linkner_ray.runs.folder import Receipt
from linkner_ray.stages.classify_spans import ClassifySpans
from linkner_ray.stages.recognize_spans import RecognizeSpans
from linkner_ray.stages.route_spans import RouteSpans
from linkner_ray.storage import Folder
from linkner_ray.unit_steps import UNIT_ROW, apply_stages, read_sources, write_units
from tests.crawl import config_of, overrides
from tests.fakes import ScriptedBackend


def by_digest(request):
    """Probabilities that follow from what is asked and from nothing else."""
    digest = hashlib.blake2b(request.key.encode(), digest_size=len(request.options)).digest()
    total = sum(digest) + len(digest)
    return {
        class_id: (byte + 1) / total
        for (_, class_id), byte in zip(request.options, digest, strict=True)
    }


def run_in_process(config, *, plan_digest, label_set, todo, sources):
    """What `pipeline.run_extraction` does, unit after unit."""
    del sources  # only a budget of calls is divided among them
    stages = [
        RecognizeSpans(config.recognize),
        RouteSpans(config.routing, has_llm=True),
        ClassifySpans(ScriptedBackend(label_set, by_digest), label_set, config=config.llm),
    ]
    for source, done in todo:
        item = {"source": json.dumps(asdict(source)), "done": done, "allotment": None}
        units = read_sources(
            pa.Table.from_pylist([item]),
            plan_digest=plan_digest,
            config=config.input,
            sentences=config.sentences,
            raw_chars=config.errors.raw_chars,
        )
        for unit in units:
            rows = [apply_stages(row, stages) for row in unit.to_pylist()]
            written = write_units(
                pa.Table.from_pylist(rows, schema=UNIT_ROW),
                output=config.output,
                fusion=config.fusion,
                label_set=label_set,
            )
            for row in written.to_pylist():
                yield Receipt(**json.loads(row["receipt"]))


def plan_of(crawl, output, checkpoint, *more):
    """A plan with an LLM that `by_digest` plays."""
    llm = ["llm.backend=openai", "llm.model=digest", "llm.base_url=http://127.0.0.1:9/v1"]
    arguments = overrides(crawl, output, checkpoint, *llm, "routing.threshold=0.3", *more)
    return plan_extraction(config_of(*arguments))


def extract_in_process(monkeypatch, plan):
    """`extract` without Ray."""
    monkeypatch.setattr(linkner_ray.extraction, "run_extraction", run_in_process)
    return extract(plan)


def status_of_child(work):
    """Do something in a forked process and wait for it; its wait status, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - a test's own frames must not go on in a child
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def every_file(url):
    """Content of every file of an output, hidden ones too."""
    folder = Folder.at(str(url))
    folder.filesystem.invalidate_cache()
    return {
        str(Path(path).relative_to(folder.root)): folder.filesystem.cat_file(path)
        for path in folder.filesystem.find(folder.root)
    }
