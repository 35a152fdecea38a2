import copy
import json
import tracemalloc

import pytest

from linkner_ray.runs.counters import add_counts
from linkner_ray.runs.packed_counts import PackedCounts

NAMES = [f"uncertainty_predicted_bin_{index:02d}" for index in range(70)]


def test_it_reads_like_the_dict_it_was_made_of():
    counts = {"a": 1, "b": 0}
    packed = PackedCounts(counts)
    assert packed == counts
    assert counts == packed
    assert dict(packed) == counts
    assert packed.get("c", 7) == 7
    totals = {"b": 2, "c": 3}
    add_counts(totals, packed)
    assert totals == {"a": 1, "b": 2, "c": 3}
    assert copy.deepcopy(packed) == packed
    assert dict(PackedCounts({"a": 0.5, "b": 2.0})) == {"a": 0.5, "b": 2.0}
    with pytest.raises(KeyError):
        packed["c"]


@pytest.mark.parametrize(
    "counts",
    [
        {"a": 2**16 - 1, "b": 0},
        {"a": 2**16, "b": 0},
        {"a": 2**32, "b": 0},
        {"a": -(2**63), "b": 2**63 - 1},
        {"a": 2**40, "b": 0.5},
        {},
    ],
    ids=["16 bits", "32 bits", "over 32 bits", "64 bits with a sign", "fractions", "none"],
)
def test_numbers_of_every_size_come_out_as_they_went_in(counts):
    assert dict(PackedCounts(counts)) == counts


def test_other_names_and_other_orders_do_not_mix():
    first, second = PackedCounts({"a": 1, "b": 2}), PackedCounts({"b": 3, "a": 4})
    assert (first["a"], second["a"], PackedCounts({"b": 5})["b"]) == (1, 4, 5)


def test_a_thousand_units_take_a_twentieth_of_what_their_dicts_take():
    lines = [json.dumps(dict.fromkeys(NAMES, 1000 + unit)) for unit in range(1000)]

    def size_of(make):
        tracemalloc.start()
        kept = [make(json.loads(line)) for line in lines]
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(kept) == 1000
        return size

    assert size_of(PackedCounts) < size_of(dict) / 20
