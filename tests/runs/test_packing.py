"""Packing, against every placement there is."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.runs.cluster_shape import Node
from linkner_ray.runs.packing import ActorSize, num_beside_engines, num_fitting, num_guaranteed

HALF_GPU = ActorSize(1, 0.5)
GPU = ActorSize(1, 1)


def test_an_engine_of_two_gpus_takes_both_from_one_node():
    engine = ActorSize(1, 2)
    # three GPUs: one pair and one that is left over
    assert num_fitting(Node(8, 3), engine, other=HALF_GPU) == 1
    assert num_fitting(Node(8, 1), engine, other=HALF_GPU) == 0


def test_cpus_limit_what_gpus_would_hold():
    assert num_fitting(Node(2, 8), GPU, other=HALF_GPU) == 2


def test_encoders_share_a_gpu_before_they_begin_the_next():
    # three halves of a GPU begin two of four
    assert num_fitting(Node(64, 4), GPU, beside=3, other=HALF_GPU) == 2


def test_what_an_encoder_leaves_of_a_gpu_holds_a_small_engine():
    small = ActorSize(1, 0.6)
    third = ActorSize(1, 0.3)
    assert num_fitting(Node(8, 1), small, beside=1, other=third) == 1
    assert num_fitting(Node(8, 1), small, beside=2, other=third) == 0


def test_an_encoder_may_take_the_only_gpu_of_a_node_from_an_engine():
    nodes = [Node(8, 1), Node(8, 1)]
    assert num_guaranteed(nodes, GPU, encoders=1, encoder=HALF_GPU) == 1
    # either both share a GPU, or each takes one
    assert num_guaranteed(nodes, GPU, encoders=2, encoder=HALF_GPU) == 0


def test_a_spare_gpu_is_where_an_encoder_costs_nothing():
    # five GPUs hold two engines of two; one encoder fits the fifth wherever it lands
    assert num_guaranteed([Node(64, 5)], ActorSize(1, 2), encoders=1, encoder=HALF_GPU) == 2


SIZES = st.sampled_from([(1, 0), (2, 0), (0.5, 0.5), (1, 0.4), (1, 1), (1, 2)]).map(
    lambda pair: ActorSize(*pair)
)
NODES = st.lists(st.builds(Node, st.integers(1, 6), st.integers(0, 4)), min_size=1, max_size=3)


@given(nodes=NODES, engine=SIZES, encoder=SIZES, encoders=st.integers(0, 4))
def test_the_guarantee_is_what_the_worst_placement_leaves(nodes, engine, encoder, encoders):
    room = [num_fitting(node, encoder, other=engine) for node in nodes]
    places = [
        sum(
            num_fitting(node, engine, beside=here, other=encoder)
            for node, here in zip(nodes, placed, strict=True)
        )
        for placed in product(*(range(min(encoders, most) + 1) for most in room))
        if sum(placed) <= encoders
    ]
    found = num_guaranteed(nodes, engine, encoders=encoders, encoder=encoder)
    assert found == min(places)


@given(nodes=NODES, engine=SIZES, encoder=SIZES, engines=st.integers(0, 4))
def test_encoders_beside_engines_have_a_placement(nodes, engine, encoder, engines):
    count = num_beside_engines(nodes, encoder, engines=engines, engine=engine)
    places = [num_fitting(node, engine, other=encoder) for node in nodes]
    rooms = [
        sum(
            num_fitting(node, encoder, beside=here, other=engine)
            for node, here in zip(nodes, placed, strict=True)
        )
        for placed in product(*(range(most + 1) for most in places))
        if sum(placed) == min(engines, sum(places))
    ]
    assert min(rooms) <= count <= max(rooms)


def test_an_actor_that_asks_for_nothing_is_refused():
    with pytest.raises(ValueError, match="asks for nothing"):
        num_fitting(Node(1), ActorSize(0), other=GPU)
