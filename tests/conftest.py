"""Fixtures that every part may use."""

import getpass
import logging
import os
import tempfile
import urllib.request
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings

from tests.scheduling import pytest_xdist_make_scheduler  # noqa: F401 - a hook

os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"  # checkpoints count soon after
# Beside anything else at work on the machine, workers as nice as Ray makes them hardly start.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ["LINKNER_SELF_CHECKS"] = ""  # every load checks, and nothing is left in the user's home
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: more threads only wait for each other
os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)  # workers import tests, too
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes import the same modules

if WORKER := os.environ.get("PYTEST_XDIST_WORKER"):
    # Tests side by side see as little of each other as those of two users: neither the cores that
    # engines hold nor the last Ray that was started.
    os.environ["TMPDIR"] = f"{tempfile.gettempdir()}/{getpass.getuser()}-{WORKER}"
    Path(os.environ["TMPDIR"]).mkdir(exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"]

# A third of the examples that are usual: each run draws others, and all were run many times.
settings.register_profile("shared machine", deadline=None, max_examples=35)
settings.load_profile("shared machine")


COLLECTED = pytest.StashKey[dict[str, set[str]]]()
"""Names of the markers of every test that was collected, before any is deselected."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Modules that start Ray or an engine come first: side by side, the short ones fill the end."""
    config.stash[COLLECTED] = {
        item.nodeid: {marker.name for marker in item.iter_markers()} for item in items
    }
    long = {i.path for i in items if i.get_closest_marker("ray") or i.get_closest_marker("vllm")}
    items.sort(key=lambda item: item.path not in long)  # stable: otherwise as they came


@pytest.fixture(autouse=True, scope="session")
def answer_indexes(tmp_path_factory):
    """A folder for indexes of answer caches, which are the node's and stay for a while."""
    folder = str(tmp_path_factory.mktemp("indexes"))
    with patch("linkner_ray.llm.cache.answer_index.gettempdir", return_value=folder):
        yield


def pytest_make_parametrize_id(val, argname):
    """Bytes name no test: compressed ones may hold the time, of each process its own."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def linkner_data() -> Path:
    """Folder of real corpora, from LINKNER_DATA or beside the repository."""
    default = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("LINKNER_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no corpora at {folder}; set LINKNER_DATA")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A small local model; to be read only."""
    from tests.crawl import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def crawl(tmp_path_factory):
    """Shards of three formats; to be read only."""
    from tests.crawl import write_crawl

    return write_crawl(tmp_path_factory.mktemp("crawl"))


@pytest.fixture
def without_ray(monkeypatch):
    """Runs of this process take their steps here, for what Ray has no part in."""
    from tests.local_pipeline import run_here

    monkeypatch.setattr("linkner_ray.extract.job.run_extraction", run_here)
    monkeypatch.setattr("linkner_ray.extract.ray_start.start_ray", lambda: None)


@pytest.fixture(scope="session")
def two_cpus():
    """One Ray of two logical CPUs for all tests of a process that want one."""
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server():
    """The address of a real HTTP server that speaks S3, one for all tests of a process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The server without any bucket, and the environment that finds it.

    Instances of s3fs remember listings of what earlier tests wrote, so each test begins without.
    """
    import s3fs

    environment = {
        "AWS_ENDPOINT_URL": f"http://{s3_server}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(
        urllib.request.Request(f"http://{s3_server}/moto-api/reset", method="POST"), timeout=30
    ).close()
    s3fs.S3FileSystem.clear_instance_cache()
    yield environment
    s3fs.S3FileSystem.clear_instance_cache()
