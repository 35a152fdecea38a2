"""The whole pipeline in this process: the same steps in the same order as on Ray, without it."""

from functools import partial

import pytest

from linkner_ray.extract import job as extraction
from linkner_ray.extract.documents import StagedDocuments
from linkner_ray.extract.pipeline import read_shards, shard_rows
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.extract.unit_rows import rows_of, units_in
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.write_entities import write_unit
from tests.crawl import config_of


def run_here(
    config, *, plan_digest, label_set, todo, sources, previous=None, start_llm=Chain.start_llm
):
    """Stands in for `pipeline.run_extraction`."""
    chain = Chain.of(config, label_set)
    backend = start_llm(chain)
    steps = [
        chain.recognize_step(chain.load_recognizer(when_needed=previous is not None)),
        chain.classify_step(backend),
        chain.fuse_step(),
    ]
    shards = shard_rows(chain, todo, sources)
    read = partial(read_shards, config=config, plan_digest=plan_digest, previous=previous)
    for rows in read(shards, encode=chain.load_encode_words()):
        yield write_unit(taken(rows, steps), config.output)
    if backend is not None:
        backend.close()


def taken(rows, steps):
    """The one unit of such rows after steps; between two of them it travels as on Ray."""
    for step in steps:
        [unit] = units_in(rows)
        step(unit)
        rows = rows_of([unit])
    return unit


def extract_here(*arguments):
    """A whole run of such a command line, for an output to compare with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "run_extraction", run_here)
        return extraction.extract(plan_extraction(config_of(*arguments)))


def documents_here(tables, chain, _resources, **_):
    """Stands in for `pipeline.run_documents`."""
    backend = chain.start_llm()
    steps = [
        chain.recognize_step(chain.load_recognizer()),
        chain.classify_step(backend),
        lambda unit: unit.apply(chain.fuse()),
    ]
    units = [taken(rows_of([unit]), steps) for unit in chain.units_at_hand(tables)]
    if backend is not None:
        backend.close()
    return StagedDocuments.of(units)
