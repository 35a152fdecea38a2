from pathlib import Path

import pytest

from linkner_ray.labels import load_label_set

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data():
    return ROOT / "tests" / "data"


@pytest.fixture
def conll03():
    return load_label_set("conll03")
