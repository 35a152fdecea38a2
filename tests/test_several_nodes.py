"""Several Ray nodes on one machine: one joins, one is lost, and the output is that of one node."""

import hashlib
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from tests.crawl import files_of, overrides, text_of, write_checkpoint, write_parquet
from tests.endpoint_server import Server, completion

ROOT = Path(__file__).parent.parent
EXTRACT = [sys.executable, str(ROOT / "jobs" / "extract.py")]

NUM_UNITS = 40
UNIT_DOCUMENTS = 3
DEADLINE_S = 400

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]


def hashed(_number, body):
    """What is asked, and nothing else, decides the answer."""
    time.sleep(0.02)
    digest = hashlib.blake2b(json.dumps(body["messages"]).encode(), digest_size=4).digest()
    total = 4 + sum(digest)
    probs = {symbol: (1 + byte) / total for symbol, byte in zip("ABCD", digest, strict=True)}
    best = max(probs, key=probs.get)
    return 200, completion(best, dict(sorted(probs.items(), key=lambda item: item[0] != best)))


@pytest.fixture(scope="module")
def llm():
    server = Server()
    server.reply = hashed
    yield server
    server.close()


@pytest.fixture(scope="module")
def job(tmp_path_factory, llm):
    """Arguments of a run but its output: many small units, a slow encoder, a slow LLM."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "crawl").mkdir()
    texts = [f"{text_of(n)} {text_of(n + 1)}" for n in range(NUM_UNITS * UNIT_DOCUMENTS)]
    write_parquet(folder / "crawl" / "a.parquet", texts, group=UNIT_DOCUMENTS)
    checkpoint = write_checkpoint(folder / "checkpoint")

    def arguments(output, *more):
        return [
            *overrides(folder / "crawl", output, checkpoint),
            f"input.unit_documents={UNIT_DOCUMENTS}",
            "recognize.uncertainty=mc_dropout",
            "recognize.dropout_scope=encoder",
            "recognize.dropout_samples=8",
            "recognize.num_threads=1",
            "routing.threshold=0.2",
            "llm.backend=openai",
            "llm.model=hashed",
            f"llm.base_url={llm.url}",
            *more,
        ]

    return arguments


@pytest.fixture(scope="module")
def wanted(job, tmp_path_factory):
    """The files of a run on one node."""
    output = tmp_path_factory.mktemp("alone") / "out"
    done = subprocess.run(
        [*EXTRACT, *job(output)], capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr
    assert len(list((output / "entities").iterdir())) == NUM_UNITS
    return written(output)


def written(output):
    """Content of all files but that of the config, which names the output itself."""
    return {name: raw for name, raw in files_of(output).items() if name != "_run.json"}


@contextmanager
def nodes(*cpus):
    """A head and further nodes with so many CPUs each; a dead one is noticed within seconds."""
    health = {
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "5",
    }
    before = dict(os.environ)
    os.environ |= health
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": cpus[0],
            "object_store_memory": 100 * 2**20,
            "include_dashboard": False,
        },
    )
    try:
        for count in cpus[1:]:
            add_node(cluster, count)
        yield cluster
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


def add_node(cluster, cpus):
    return cluster.add_node(num_cpus=cpus, object_store_memory=100 * 2**20)


@contextmanager
def started(cluster, arguments, log):
    """A run on a cluster, ended with the test."""
    with log.open("wb") as out:
        driver = subprocess.Popen(
            [*EXTRACT, *arguments],
            env={**os.environ, "RAY_ADDRESS": str(cluster.address)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield driver
    finally:
        driver.kill()
        driver.wait()


def workers(node):
    """Processes that do a node's work."""
    found = []
    for raylet in node.all_processes.get("raylet", ()):
        try:
            found += psutil.Process(raylet.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            continue
    return found


def title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def is_encoder(process):
    """Encoders have loaded torch; nothing else of a run with an endpoint has."""
    try:
        mapped = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    except OSError:
        return False
    return "MapWorker" in title(process) and "libtorch_cpu" in mapped


def is_llm(process):
    return "MapWorker" in title(process) and not is_encoder(process)


def wait_until(condition, driver, log):
    """Wait for something that must happen while the run goes on."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert driver.poll() is None, f"the run was over before: {log.read_text()[-3000:]}"
        assert time.monotonic() < deadline, f"it never happened: {log.read_text()[-3000:]}"
        time.sleep(0.05)


def finish(driver, output, log, wanted):
    assert driver.wait(DEADLINE_S) == 0, log.read_text()[-3000:]
    found = written(output)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


def num_done(output):
    folder = output / "entities"
    return len(list(folder.glob("part-*.parquet"))) if folder.is_dir() else 0


def test_a_node_that_joins_is_used(job, wanted, tmp_path):
    output, log = tmp_path / "out", tmp_path / "log"
    # The first node has no room for the second encoder, which the pool may grow by.
    arguments = job(output, "resources.max_encoder_actors=2")
    with nodes(2) as cluster, started(cluster, arguments, log) as driver:
        wait_until(lambda: num_done(output) >= 2, driver, log)
        joined = add_node(cluster, 2)
        wait_until(lambda: any("ray::" in title(p) for p in workers(joined)), driver, log)
        finish(driver, output, log, wanted)


@pytest.mark.parametrize("stage", ["encoder", "llm"])
def test_a_node_that_is_lost_costs_time_and_no_byte(job, wanted, tmp_path, llm, stage):
    output, log = tmp_path / "out", tmp_path / "log"
    is_victim = {"encoder": is_encoder, "llm": is_llm}[stage]
    # The driver's node takes no work, and each of the two others has room for all of it.
    with nodes(0, 2, 2) as cluster, started(cluster, job(output), log) as driver:
        others = list(cluster.worker_nodes)
        before = len(llm.bodies)

        def find():
            at_work = num_done(output) >= 1 and len(llm.bodies) > before
            hosts = [node for node in others if any(map(is_victim, workers(node)))]
            return hosts if at_work else []

        wait_until(find, driver, log)
        [lost, *_] = find()
        assert num_done(output) < NUM_UNITS
        cluster.remove_node(lost, allow_graceful=False)
        finish(driver, output, log, wanted)
