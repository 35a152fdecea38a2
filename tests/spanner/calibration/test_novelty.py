import numpy as np
import pytest

from linkner_ray.errors import StartupError
from linkner_ray.spanner.calibration.novelty import FEATURES, NOVELTY, NoveltyFeatures

KNOWN = NoveltyFeatures.of(
    [
        (["Angela", "Merkel", "visited", "Paris"], [(0, 2, "PER"), (3, 4, "LOC")]),
        (["Paris", "Hilton", "sang"], [(0, 2, "PER")]),
    ]
)


def test_features_of_known_and_strange_spans():
    found = KNOWN.features(
        [["angela", "MERKEL"], ["Paris"], ["Paris", "Texas"], ["Xu"]], ["PER", "PER", "LOC", "PER"]
    )
    assert found.shape == (4, len(FEATURES))
    assert found.tolist() == [
        [0, 0, 0],  # seen under this label, in any case
        [0, 1, 0],  # seen, but as a place
        [1, 0, 0.5],  # the form is new, half of its words are not
        [1, 0, 1],
    ]


def test_words_joined_otherwise_are_another_form():
    joined = KNOWN.features([["AngelaMerkel"], ["Angela", "Merkel"]], ["PER", "PER"])
    assert joined[:, 0].tolist() == [1, 0]


def test_a_training_set_without_entities_and_no_spans_at_all():
    nothing = NoveltyFeatures.of([(["only", "words"], [])])
    assert nothing.features([["only"]], ["PER"]).tolist() == [[1, 0, 0]]
    assert nothing.features([], []).shape == (0, len(FEATURES))


def test_hostile_tokens_have_features_too():
    assert KNOWN.features([["\ud800", "\x00"]], ["PER"]).tolist() == [[1, 0, 1]]


def test_what_is_written_is_read(tmp_path):
    KNOWN.write(tmp_path)
    read = NoveltyFeatures.read(tmp_path)
    for name in ("forms", "labelled_forms", "words"):
        assert np.array_equal(getattr(read, name), getattr(KNOWN, name))
    assert NoveltyFeatures.read(tmp_path / "elsewhere") is None


def test_a_damaged_file_is_an_error_at_start(tmp_path):
    KNOWN.write(tmp_path)
    path = tmp_path / NOVELTY
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(StartupError, match="is damaged"):
        NoveltyFeatures.read(tmp_path)
