import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from linkner_ray.config import ResourcesConfig
from linkner_ray.errors import ConfigError
from linkner_ray.extract.resources import check_resources


def nodes(*gpus, cpus=8.0):
    return [{"CPU": cpus, "GPU": float(number)} for number in gpus]


@pytest.mark.parametrize(
    ("settings", "nodes", "message"),
    [
        # 1 encoder at 0.5, 1 llm at 0.5, one task of 0.4
        ({}, nodes(0, cpus=2.0), None),
        # Actors that take all CPUs would let no task run.
        (
            {"encoder_cpus": 1, "llm_cpus": 1},
            nodes(0, cpus=2.0),
            "needs 2.4 CPUs .* the cluster has 2",
        ),
        ({"encoder_gpus": 0.5, "llm_gpus": 1}, nodes(1), "needs 1.5 GPUs .* the cluster has 1"),
        ({"llm_gpus": 2}, nodes(1, 1), "no node can hold one llm actor"),
        (
            {"llm_gpus": 2, "llm_actors": 2},
            nodes(3, 1),
            "2 llm actors .* the nodes hold 1: .* never spans",
        ),
    ],
)
def test_a_run_that_would_hang_is_refused(settings, nodes, message):
    resources = ResourcesConfig(**settings)
    check_resources(resources, has_llm=False, nodes=nodes)
    refused = pytest.raises(ConfigError, match=message) if message else nullcontext()
    with refused:
        check_resources(resources, has_llm=True, nodes=nodes)


@pytest.mark.parametrize(("share", "on_one"), [(0.5, 2), (0.4, 2), (0.3, 3), (1, 1)])
def test_an_actor_gets_its_part_of_one_gpu_never_of_two(share, on_one):
    nodes = [{"CPU": 16.0, "GPU": 1.0}, {"CPU": 16.0, "GPU": 2.0}]
    fits = ResourcesConfig(encoder_gpus=share, encoder_actors=3 * on_one)
    check_resources(fits, has_llm=False, nodes=nodes)
    more = fits.model_copy(update={"encoder_actors": 3 * on_one + 1})
    with pytest.raises(ConfigError, match=f"the nodes hold {3 * on_one}:|GPUs at once"):
        check_resources(more, has_llm=False, nodes=nodes)


def test_the_example_of_the_page_on_sizing_fits_its_nodes():
    page = (Path(__file__).parents[2] / "docs" / "sizing.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    resources = ResourcesConfig(**yaml.safe_load(block)["resources"])
    nodes = [{"CPU": 4.0, "GPU": 1.0}] * 4 + [{"CPU": 8.0, "GPU": 1.0}] * 3 + [{"CPU": 16.0}]
    largest = resources.model_copy(update={"encoder_actors": resources.max_encoder_actors})
    check_resources(largest, has_llm=True, nodes=nodes)
    with pytest.raises(ConfigError, match="no node can hold one llm actor"):
        check_resources(largest, has_llm=True, nodes=[nodes[0]] * 16)
