import os
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


@pytest.fixture
def labelled_corpora():
    folder = Path(os.environ.get("LINKNER_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no labelled corpora in {folder}; set LINKNER_DATA to their folder")
    return folder
