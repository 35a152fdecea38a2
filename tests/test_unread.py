import pytest

from linkner_ray.unread import count_unread, find_blobs, invisible

BLOB = "Q7+/" * 300


@pytest.mark.parametrize(
    ("text", "blobs"),
    [
        ("word " * 1_000, []),
        ("x" * 999 + " " + "x" * 999, []),
        ("x" * 1_000, [(0, 1_000)]),
        (f"Ada {BLOB} Paris", [(4, 1_204)]),
        (f"\u6771{BLOB}\n{BLOB}\u4eac", [(1, 1_201), (1_202, 2_402)]),
        ("\u6771\u4eac" * 1_000, []),
    ],
)
def test_a_blob_is_a_run_of_a_thousand_characters_without_a_blank(text, blobs):
    assert find_blobs(text) == blobs


@pytest.mark.parametrize(
    ("text", "sentences", "expected"),
    [
        (" Ada \n Ben ", [(1, 4), (7, 10)], (5, 0)),
        ("\ufeffAda\u200b\x01", [(1, 4)], (3, 0)),
        ("Ada, Ben", [(0, 3)], (1, 0)),  # the comma and "Ben" are lost, so they are in no count
        (f"Ada {BLOB} Ben", [(0, 3), (1_205, 1_208)], (2, 1_200)),
        (f"Ada {BLOB}", [(0, 10)], (0, 1_194)),  # a token reaches into it
        (f"{BLOB} {BLOB}", [], (1, 2_400)),
        ("", [], (0, 0)),
    ],
)
def test_what_stands_in_no_sentence_is_counted_by_kind(text, sentences, expected):
    assert count_unread(text, sentences) == expected


def test_invisible_characters_are_controls_formats_and_fillers():
    assert {"\u200b", "\ufeff", "\0", "\u3164", "\ufe0f", "\u00ad"} <= invisible()
    assert not {"a", "\u0600", "\u0301", "-"} & invisible()
