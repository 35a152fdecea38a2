"""The steps of a run one after the other in this process: all of it but Ray."""

import hashlib
import os
from functools import partial
from pathlib import Path

import linkner_ray.extract.job
from linkner_ray.extract.job import extract
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.storage import Folder
from tests.crawl import config_of, overrides
from tests.fakes import ScriptedBackend
from tests.local_pipeline import run_here


def by_digest(request):
    """Probabilities that follow from what is asked and from nothing else."""
    digest = hashlib.blake2b(request.key.encode(), digest_size=len(request.options)).digest()
    total = sum(digest) + len(digest)
    return {
        class_id: (byte + 1) / total
        for (_, class_id), byte in zip(request.options, digest, strict=True)
    }


run_in_process = partial(
    run_here, start_llm=lambda chain: ScriptedBackend(chain.label_set, by_digest)
)
"""What `pipeline.run_extraction` does, unit after unit, with an LLM that `by_digest` plays."""


def plan_of(crawl, output, checkpoint, *more):
    """A plan with an LLM that `by_digest` plays."""
    llm = ["llm.backend=openai", "llm.model=digest", "llm.base_url=http://127.0.0.1:9/v1"]
    arguments = overrides(crawl, output, checkpoint, *llm, "routing.threshold=0.3", *more)
    return plan_extraction(config_of(*arguments))


def extract_in_process(monkeypatch, plan):
    """`extract` without Ray."""
    monkeypatch.setattr(linkner_ray.extract.job, "run_extraction", run_in_process)
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
