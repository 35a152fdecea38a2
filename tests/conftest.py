"""Fixtures that every part may use."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
