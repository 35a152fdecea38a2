"""Several Ray nodes on one machine: one joins, one is lost, and the output is that of one node."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest
from ray.cluster_utils import Cluster

from tests.crawl import files_of, overrides, text_of, write_checkpoint, write_parquet
from tests.endpoint_server import Server, completion
from tests.local_pipeline import extract_here
from tests.nodes_job import HOLD, LOADED, events

NUM_UNITS = 16
UNIT_DOCUMENTS = 3
DEADLINE_S = 500

# An encoder more does not fit beside all this on a node of 2 CPUs.
RESOURCES = [
    "resources.encoder_cpus=1",
    "resources.llm_cpus=0.2",
    "resources.read_cpus=0.3",
    "resources.write_cpus=0.2",
]

ENVIRONMENT = {
    # A dead node is noticed within seconds, not half a minute.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
    # Units as small as these would travel inside messages, and none would be lost with its node.
    "RAY_max_direct_call_object_size": "1024",
}

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]


class HashedLlm:
    """Answers follow from what is asked and from nothing else; they may be held back."""

    def __init__(self) -> None:
        self.server = Server()
        self.server.reply = self.reply
        self.held_from = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def hold(self, *, after):
        """Answer so many more questions, and no other before `release`."""
        self.may_answer.clear()
        self.held_from = len(self.server.bodies) + after

    def release(self):
        self.held_from = None
        self.may_answer.set()

    @property
    def holds(self):
        """Whether a question waits for its answer."""
        return self.held_from is not None and len(self.server.bodies) > self.held_from

    def reply(self, number, body):
        if self.held_from is not None and number >= self.held_from:
            self.may_answer.wait(DEADLINE_S)
        digest = hashlib.blake2b(json.dumps(body["messages"]).encode(), digest_size=4).digest()
        total = 4 + sum(digest)
        probs = {symbol: (1 + byte) / total for symbol, byte in zip("ABCD", digest, strict=True)}
        best = max(probs, key=probs.get)
        return 200, completion(best, dict(sorted(probs.items(), key=lambda item: item[0] != best)))


@pytest.fixture(scope="module")
def llm():
    llm = HashedLlm()
    yield llm
    llm.release()
    llm.server.close()


@pytest.fixture(scope="module")
def job(tmp_path_factory, llm):
    """Arguments of a run but its output: many small units, some of their spans asked about."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "crawl").mkdir()
    texts = [f"{text_of(n)} {text_of(n + 1)}" for n in range(NUM_UNITS * UNIT_DOCUMENTS)]
    half = len(texts) // 2
    write_parquet(folder / "crawl" / "a.parquet", texts[:half], group=UNIT_DOCUMENTS)
    write_parquet(folder / "crawl" / "b.parquet", texts[half:], first=half, group=UNIT_DOCUMENTS)
    checkpoint = write_checkpoint(folder / "checkpoint")

    def arguments(output, *more):
        return [
            *overrides(folder / "crawl", output, checkpoint),
            f"input.unit_documents={UNIT_DOCUMENTS}",
            "routing.threshold=0.2",
            "llm.backend=openai",
            "llm.model=hashed",
            f"llm.base_url={llm.server.url}",
            *more,
        ]

    return arguments


@pytest.fixture(scope="module")
def wanted(job, tmp_path_factory):
    """The files of a run in one process that nobody disturbed."""
    folder = tmp_path_factory.mktemp("alone")
    extract_here(*job(folder / "out"))
    assert len(list((folder / "out" / "entities").iterdir())) == NUM_UNITS
    return written(folder / "out")


def written(output):
    """Content of all files but that of the config, which names the output and the pools."""
    return {name: raw for name, raw in files_of(output).items() if name != "_run.json"}


@contextmanager
def nodes(head_cpus, *others):
    """A cluster: a head, where drivers run, and further nodes with so many CPUs and GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        head = {"num_cpus": head_cpus, "num_gpus": 0, "include_dashboard": False}
        cluster = Cluster(
            initialize_head=True, head_node_args={**head, "object_store_memory": 100 * 2**20}
        )
        try:
            for cpus, gpus in others:
                add_node(cluster, cpus, gpus)
            yield cluster
        finally:
            cluster.shutdown()


def add_node(cluster, cpus, gpus=0):
    return cluster.add_node(num_cpus=cpus, num_gpus=gpus, object_store_memory=100 * 2**20)


def lose_node(cluster, node):
    """End a node and all that runs on it at once, as when its power fails."""
    workers = [
        worker
        for raylet in node.all_processes["raylet"]
        for worker in psutil.Process(raylet.process.pid).children(recursive=True)
    ]
    cluster.remove_node(node, allow_graceful=False)
    for worker in workers:
        try:
            worker.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(workers, timeout=60)


class Run:
    """A run on a cluster, ended with the test."""

    def __init__(self, cluster, arguments, folder, *, hold_after=None) -> None:
        """Start it.

        Args:
            cluster: Whose head is the driver's node.
            arguments: Overrides.
            folder: In which the output is called `out`.
            hold_after: Units that each encoder takes before it waits for `release`.
        """
        self.output, self.log = folder / "out", folder / "log"
        self.events_folder = folder / "events"
        self.events_folder.mkdir()
        if hold_after is not None:
            (self.events_folder / HOLD).write_text(str(hold_after))
        with self.log.open("wb") as out:
            self.driver = subprocess.Popen(
                [sys.executable, "-m", "tests.nodes_job", str(self.events_folder), *arguments],
                env={**os.environ, "RAY_ADDRESS": str(cluster.address)},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.kill()
        self.driver.wait()

    def release(self):
        """Let encoders go on."""
        (self.events_folder / HOLD).unlink()

    def events(self, role=None):
        found = events(self.events_folder)
        return [event for event in found if role in (None, event.role)]

    def nodes_of(self, role):
        """Ids of the nodes on which a role has begun a unit or loaded its models."""
        return {event.node for event in self.events(role)}

    def begun(self, role, node):
        """Units that a role has begun on a node."""
        return {e.unit for e in self.events(role) if e.node == node.node_id and e.unit != LOADED}

    def num_done(self):
        folder = self.output / "entities"
        return len(list(folder.glob("part-*.parquet"))) if folder.is_dir() else 0

    def wait_until(self, condition):
        """Wait for something that must happen while the run goes on."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert self.driver.poll() is None, f"the run was over before: {self.tail()}"
            assert time.monotonic() < deadline, f"it never happened: {self.tail()}"
            time.sleep(0.05)

    def tail(self):
        return self.log.read_text(errors="replace")[-3000:]

    def finish(self):
        assert self.driver.wait(DEADLINE_S) == 0, self.tail()

    def finish_with(self, wanted):
        """Wait for the end, and compare every file."""
        self.finish()
        found = written(self.output)
        assert found.keys() == wanted.keys()
        assert [name for name in wanted if found[name] != wanted[name]] == []


@pytest.mark.soak
def test_a_node_that_joins_a_run_gets_an_encoder_and_units(job, wanted, tmp_path):
    arguments = job(tmp_path / "out", *RESOURCES, "resources.max_encoder_actors=2")
    with nodes(2) as cluster, Run(cluster, arguments, tmp_path, hold_after=2) as run:
        run.wait_until(lambda: run.num_done() == 2)
        assert len(run.nodes_of("encoder")) == 1
        joined = add_node(cluster, 2)
        run.wait_until(lambda: run.begun("encoder", joined))
        run.release()
        run.finish_with(wanted)
        assert run.nodes_of("encoder") == {cluster.head_node.node_id, joined.node_id}


def test_a_node_that_is_lost_while_encoding_costs_time_and_no_byte(job, wanted, tmp_path):
    with (
        nodes(0, (2, 0), (2, 0)) as cluster,
        Run(cluster, job(tmp_path / "out", *RESOURCES), tmp_path, hold_after=2) as run,
    ):

        def holders():
            return [node for node in cluster.worker_nodes if len(run.begun("encoder", node)) > 2]

        run.wait_until(lambda: run.num_done() == 2 and holders())
        [lost] = holders()
        begun = run.begun("encoder", lost)
        lose_node(cluster, lost)
        run.release()
        run.finish_with(wanted)
        [left] = cluster.worker_nodes
        assert begun & run.begun("encoder", left)
        assert cluster.head_node.node_id not in run.nodes_of("encoder")


@pytest.mark.soak
def test_a_node_that_is_lost_while_the_llm_answers_costs_time_and_no_byte(
    job, wanted, tmp_path, llm
):
    llm.hold(after=40)
    with (
        nodes(0, (2, 0), (2, 0)) as cluster,
        Run(cluster, job(tmp_path / "out", *RESOURCES), tmp_path) as run,
    ):
        run.wait_until(lambda: llm.holds)
        [lost] = [node for node in cluster.worker_nodes if run.begun("llm", node)]
        begun = run.begun("llm", lost)
        assert run.num_done() < NUM_UNITS
        lose_node(cluster, lost)
        llm.release()
        run.finish_with(wanted)
        [left] = cluster.worker_nodes
        assert begun & run.begun("llm", left)


@pytest.mark.soak
def test_a_driver_on_a_small_node_without_a_gpu_leaves_all_work_to_others(job, wanted, tmp_path):
    # On GPUs, auto is bfloat16; what is wanted was computed on CPUs.
    gpus = ["resources.encoder_gpus=1", "resources.llm_gpus=1", "recognize.dtype=float32"]
    arguments = job(tmp_path / "out", *RESOURCES, *gpus)
    # A head, a node for encoders and one for engines, as in cluster/rayjob.yaml.
    with nodes(0, (2, 1), (2, 1)) as cluster, Run(cluster, arguments, tmp_path) as run:
        run.finish_with(wanted)
        [encoder], [engine] = run.nodes_of("encoder"), run.nodes_of("llm")
        assert {encoder, engine} == {node.node_id for node in cluster.worker_nodes}
