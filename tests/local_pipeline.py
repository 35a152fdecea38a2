"""The whole pipeline in this process: the same steps in the same order as on Ray, without it."""

import json
from collections import Counter
from dataclasses import asdict

import pyarrow as pa
import pytest

from linkner_ray.extract import job as extraction
from linkner_ray.extract.pipeline import (
    Chain,
    StagedDocuments,
    _encoder_stages,
    _llm_stages,
    _quotas,
    set_quotas,
)
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.extract.unit_steps import (
    UNIT_ROW,
    apply_stages,
    fuse_units,
    read_sources,
    unit_of,
    unpack,
    write_units,
)
from linkner_ray.runs.folder import UnitResult
from tests.crawl import config_of


def run_here(
    config, *, plan_digest, label_set, todo, sources, previous=None, make_llm_stages=_llm_stages
):
    """Stands in for `pipeline.run_extraction`."""
    chain = Chain.of(config, label_set)
    quotas = _quotas(chain, sources)
    items = [
        {
            "source": json.dumps(asdict(source)),
            "done": done,
            "quota": json.dumps(asdict(quotas[source.path])) if quotas else None,
        }
        for source, done in todo
    ]
    stages = [
        *_encoder_stages(
            chain.recognize,
            chain.routing,
            has_llm=chain.has_llm,
            when_needed=previous is not None,
        ),
        *make_llm_stages(chain.llm, chain.cache, label_set),
    ]
    units = read_sources(
        pa.Table.from_pylist(items),
        plan_digest=plan_digest,
        config=config.input,
        sentences=config.sentences,
        raw_chars=config.errors.raw_chars,
        previous=previous,
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
            yield UnitResult.from_record(json.loads(row["unit_result"]))
    if stages[-1].backend is not None:
        stages[-1].backend.close()


def extract_here(*arguments):
    """A whole run of such a command line, for an output to compare with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "run_extraction", run_here)
        return extraction.extract(plan_extraction(config_of(*arguments)))


def documents_here(tables, chain):
    """Stands in for `pipeline.run_documents`."""
    stages = [
        *_encoder_stages(chain.recognize, chain.routing, has_llm=chain.has_llm, when_needed=False),
        *_llm_stages(chain.llm, chain.cache, chain.label_set),
    ]
    units = [
        apply_stages(unit_of(table, f"{index:010d}"), stages)
        for index, table in enumerate(set_quotas(tables, chain.routing))
    ]
    if stages[-1].backend is not None:
        stages[-1].backend.close()
    fused = fuse_units(
        pa.Table.from_pylist(units, schema=UNIT_ROW),
        fusion=chain.fusion,
        label_set=chain.label_set,
    )
    return StagedDocuments(
        tables=tuple(unpack(documents) for documents in fused["documents"].to_pylist()),
        seconds=dict(sum((Counter(json.loads(unit["seconds"])) for unit in units), Counter())),
    )
