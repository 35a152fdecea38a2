import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.llm.option_order import OptionOrder

KINDS = st.sampled_from(["fixed", "shuffled", "rotations"])
ORDERS = st.builds(OptionOrder, kind=KINDS, count=st.integers(1, 9), seed=st.integers(0, 99))


def test_fixed_is_the_order_of_the_items_alone():
    assert OptionOrder(kind="fixed", count=3).arrange("ABCD") == (("A", "B", "C", "D"),)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (2, ("ABCDE", "CDEAB")),  # steps of 5/2: 0, 2
        (3, ("ABCDE", "BCDEA", "DEABC")),  # steps of 5/3: 0, 1, 3
        (5, ("ABCDE", "BCDEA", "CDEAB", "DEABC", "EABCD")),
        (9, ("ABCDE", "BCDEA", "CDEAB", "DEABC", "EABCD")),
    ],
)
def test_rotations_go_round_by_even_steps_and_no_order_comes_twice(count, expected):
    orders = OptionOrder(kind="rotations", count=count).arrange("ABCDE")
    assert tuple("".join(order) for order in orders) == expected


@given(ORDERS, st.integers(1, 20))
def test_every_order_has_every_item_and_no_item_stands_twice_at_one_position(order, size):
    orders = order.arrange(range(size))
    for items in orders:
        assert sorted(items) == list(range(size))
    for position in range(size):
        assert len({items[position] for items in orders}) == len(orders)


def test_the_seed_decides_the_shuffled_orders():
    def orders(seed):
        return OptionOrder(kind="shuffled", count=2, seed=seed).arrange("ABCDEFGH")

    assert orders(0) == orders(0)
    assert len({orders(seed) for seed in range(8)}) == 8


def test_questions_spread_over_the_orders_and_each_keeps_its_own():
    order = OptionOrder(kind="shuffled", count=4, seed=1)
    chosen = [order.choose(f"question {n}", 4) for n in range(400)]
    assert chosen == [order.choose(f"question {n}", 4) for n in range(400)]
    # 100 expected for each of 4, standard deviation sqrt(400 * 1/4 * 3/4) = 8.7; 5 of them allowed
    assert all(56 < chosen.count(place) < 144 for place in range(4))
    other = OptionOrder(kind="shuffled", count=4, seed=2)
    assert chosen != [other.choose(f"question {n}", 4) for n in range(400)]
