import pytest

from linkner_ray.errors import ConfigError
from linkner_ray.runs.cluster_shape import Node, parse_cluster


@pytest.mark.parametrize(
    ("texts", "nodes"),
    [
        (["cpus=64,gpus=8"], [Node(64, 8)]),
        (["4x cpus=16,gpus=1"], [Node(16, 1)] * 4),
        (
            ["cpus=0", "2 x CPUS=2.5", "1xcpus=8, gpus=2"],
            [Node(0), Node(2.5), Node(2.5), Node(8, 2)],
        ),
    ],
)
def test_nodes_are_counted_by_kind(texts, nodes):
    assert parse_cluster(texts) == nodes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("64", "cannot be read"),
        ("gpus=8", "no cpus"),
        ("cpus=8,tpus=1", "unknown tpus"),
        ("cpus=eight", "eight is no number"),
        ("cpus=nan", "nan is no number"),
        ("cpus=-1", "-1 is no number"),
        ("cpus=8,gpus=0.5", "whole GPUs"),
        ("0x cpus=8", "no nodes"),
        ("cpus=0", "no CPU"),
    ],
)
def test_what_is_no_cluster_is_refused_with_the_form_it_has(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_cluster([text])


def test_a_node_speaks_as_ray_does():
    assert Node(8, 2).resources() == {"CPU": 8, "GPU": 2.0}
    assert Node(8).resources() == {"CPU": 8}
