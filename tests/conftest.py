"""Fixtures that every part may use."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"  # checkpoints count soon after
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: more threads only wait for each other
os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)  # workers import tests, too

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def linkner_data() -> Path:
    """Folder of real corpora, from LINKNER_DATA or beside the repository."""
    default = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("LINKNER_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no corpora at {folder}; set LINKNER_DATA")
    return folder


@pytest.fixture(scope="module")
def two_cpus():
    """One Ray of two logical CPUs for the tests of a module, gone when other modules run."""
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
