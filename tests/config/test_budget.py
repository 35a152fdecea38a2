"""Budgets: what config may say, and that parts never make more than the whole."""

from fractions import Fraction
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from linkner_ray.config import RoutingConfig
from linkner_ray.config.budget import Budget, Quota, parse_budget, share_of
from linkner_ray.errors import ConfigError


@pytest.mark.parametrize(
    ("given_as", "amount", "unit"),
    [
        ("5%", Fraction(1, 20), "share"),
        ("12.5 %", Fraction(1, 8), "share"),
        (0.05, Fraction(1, 20), "share"),
        ("0.05", Fraction(1, 20), "share"),
        (0, 0, "share"),
        ("100%", 1, "share"),
        ("20000 calls", 20_000, "calls"),
        (20000, 20_000, "calls"),
        ("1 call", 1, "calls"),
        (1, 1, "calls"),
        ("3600 s", 3600, "seconds"),
        ("0.5s", Fraction(1, 2), "seconds"),
        ("90 Seconds", 90, "seconds"),
    ],
)
def test_a_budget_is_a_share_a_number_or_a_time(given_as, amount, unit):
    assert parse_budget(given_as) == Budget(Fraction(amount), unit)


@pytest.mark.parametrize("given_as", ["lots", "5 h", "101%", "-3 calls", 1.5, -1, "2.5 calls", ""])
def test_anything_else_is_refused_before_a_run(given_as):
    with pytest.raises(ValidationError):
        RoutingConfig(budget=given_as)


def test_seconds_need_a_rate_and_become_calls():
    with pytest.raises(ValidationError, match=r"needs routing\.requests_per_s"):
        RoutingConfig(budget="3600 s")
    # 90 s at 12.5 requests a second
    config = RoutingConfig(budget="90 s", requests_per_s=12.5)
    assert (config.max_calls, config.max_share) == (1125, None)
    assert RoutingConfig(budget="7 calls").max_calls == 7
    assert RoutingConfig(budget="7%").max_share == Fraction(7, 100)
    assert RoutingConfig().max_calls is RoutingConfig().max_share is None


def test_labels_that_are_never_asked_about_have_to_exist():
    RoutingConfig(never_ask=("PER",)).check_labels(["PER", "ORG"])
    with pytest.raises(ConfigError, match=r"never_ask names \['GPE'\]"):
        RoutingConfig(never_ask=("PER", "GPE")).check_labels(["PER", "ORG"])


def test_a_share_that_is_no_binary_fraction_is_exact():
    # 0.29 * 100 is 28.999999999999996 in floats
    assert share_of(parse_budget("29%").amount, 100) == 29


@given(st.lists(st.integers(0, 500), max_size=60), st.integers(0, 10_000))
def test_a_share_of_many_units_is_never_more_than_the_share_of_all(units, ten_thousandths):
    share = Fraction(ten_thousandths, 10_000)
    asked = sum(share_of(share, size) for size in units)
    assert asked <= share * sum(units)
    assert asked > share * sum(units) - len(units) or not units


@given(
    shards=st.lists(st.lists(st.integers(0, 999), min_size=1, max_size=8), min_size=1, max_size=8),
    calls=st.integers(0, 5000),
)
def test_calls_are_given_out_to_the_last_one_however_shards_are_cut(shards, calls):
    sizes = [sum(units) for units in shards]
    given_out = 0
    for before, units in zip(accumulate(sizes, initial=0), shards, strict=False):
        quota = Quota(calls=calls, total_bytes=sum(sizes), bytes_before=before)
        parts = [quota.between(a, b) for a, b in pairwise(accumulate(units, initial=0))]
        assert min(parts) >= 0
        given_out += sum(parts)
    assert given_out == (calls if sum(sizes) else 0)


def test_shards_get_calls_by_their_size():
    # 10 calls for 100 bytes: bytes 0..25 hold calls 0..2.5, bytes 25..100 the other 7.5
    first = Quota(calls=10, total_bytes=100)
    second = Quota(calls=10, total_bytes=100, bytes_before=25)
    assert (first.between(0, 25), second.between(0, 75)) == (2, 8)
