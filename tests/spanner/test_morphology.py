import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spanner.morphology import Morphology, morphology_class, morphology_classes


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("match", Morphology.LOWER),
        ("well-known", Morphology.LOWER),
        ("Paris", Morphology.TITLE),
        ("NATO", Morphology.UPPER),
        ("AT&T", Morphology.UPPER),
        ("A", Morphology.CAPITAL),
        ("J.", Morphology.CAPITAL),
        ("U.S.", Morphology.ACRONYM),
        ("McDonald", Morphology.MIXED),
        ("eBay", Morphology.MIXED),
        ("German-born", Morphology.COMPOUND),
        ("O'Neil", Morphology.COMPOUND),
        ("1996", Morphology.DIGITS),
        ("1996-08-22", Morphology.NUMBER),
        ("3.5", Morphology.NUMBER),
        ("A320", Morphology.ALPHANUMERIC),
        ("\u6771\u4eac", Morphology.CASELESS),
        ("--", Morphology.SYMBOL),
        ("", Morphology.SYMBOL),
        ("\x00", Morphology.SYMBOL),
    ],
)
def test_classes_of_known_tokens(token, expected):
    assert morphology_class(token) is expected


@given(st.text(max_size=12))
def test_every_string_has_a_class(token):
    assert morphology_class(token) in Morphology


def test_many_tokens_at_once():
    assert morphology_classes(["EU", "rejects", "."]).tolist() == [
        Morphology.UPPER,
        Morphology.LOWER,
        Morphology.SYMBOL,
    ]
    assert morphology_classes([]).shape == (0,)
