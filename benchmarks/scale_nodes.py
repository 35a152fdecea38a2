"""Several simulated nodes against one, with encoders that sleep instead of computing.

All nodes are processes on this machine, so what computes would only share its processors. An
encoder that sleeps leaves them to the engine: reading, moving units, writing, bookkeeping. What is
lost against a perfect division is what the engine costs, and by how much it stands in its own way.
"""

import tempfile
from pathlib import Path
from time import sleep
from typing import ClassVar

import pyarrow as pa

from benchmarks.scale_work import steady_rate, write_checkpoint, write_crawl
from linkner_ray.config import ExtractConfig
from linkner_ray.config.loading import load_config
from linkner_ray.extract import pipeline
from linkner_ray.extract.job import extract
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.chain import Chain, Step

UNITS_PER_NODE = 24
UNIT_DOCUMENTS = 50
SLEEP_S_PER_DOCUMENT = 0.02

Numbers = dict[str, object]


class SleepInsteadOfRecognizing:
    """`sentences` -> `candidates`: none, after as long as an encoder might take."""

    reads: ClassVar[tuple[str, ...]] = ("sentences",)
    adds: ClassVar[tuple[str, ...]] = ("candidates",)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Sleep, and find nothing."""
        sleep(SLEEP_S_PER_DOCUMENT * batch.num_rows)
        nothing: list[list[object]] = [[] for _ in range(batch.num_rows)]
        return batch.append_column("candidates", pa.array(nothing, STAGE_COLUMNS["candidates"]))


def sleeping_step(chain: Chain, *, when_needed: bool) -> Step:
    """In place of the encoder's step."""
    del when_needed
    return chain.recognize_step(SleepInsteadOfRecognizing())


def compare_nodes(num_nodes: int) -> Numbers:
    """Rates of one node and of several, each with as many units a node."""
    pipeline._recognize = sleeping_step
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(Path(folder) / "checkpoint")
        for nodes in (1, num_nodes):
            rates[nodes] = _rate(nodes, Path(folder) / str(nodes), checkpoint)
            print(f"{nodes} nodes: {rates[nodes]:.1f} documents/s")
    efficiency = rates[num_nodes] / rates[1] / num_nodes
    print(f"efficiency {efficiency:.3f}")
    return {
        "nodes": num_nodes,
        "docs_per_s_one_node": rates[1],
        "docs_per_s_all_nodes": rates[num_nodes],
        "efficiency": efficiency,
        "efficiency_of_sleeping": rates[num_nodes] * SLEEP_S_PER_DOCUMENT / num_nodes,
    }


def _rate(nodes: int, folder: Path, checkpoint: str) -> float:
    """Documents per second in the steady state of a run on so many nodes."""
    import ray
    from ray.cluster_utils import Cluster

    folder.mkdir()
    crawl = write_crawl(
        folder / "crawl", nodes * UNITS_PER_NODE * UNIT_DOCUMENTS, unit_documents=UNIT_DOCUMENTS
    )
    config = load_config(
        ExtractConfig,
        None,
        [
            f"input.paths=[{crawl}]",
            f"input.unit_documents={UNIT_DOCUMENTS}",
            f"output.path={folder / 'out'}",
            f"recognize.checkpoint={checkpoint}",
            "llm.backend=none",
            f"resources.encoder_actors={nodes}",
        ],
    )
    cluster = Cluster()
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=2, object_store_memory=2**27)
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
        extract(plan_extraction(config))
    finally:
        ray.shutdown()
        cluster.shutdown()
    return steady_rate(folder / "out").docs_per_s
