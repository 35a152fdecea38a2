import re
from pathlib import Path

import pytest
import yaml

from linkner_ray.config import ResourcesConfig
from linkner_ray.errors import ConfigError
from linkner_ray.extract.resources import check_resources

TWO_CPUS = [{"CPU": 2.0}]


def test_the_defaults_fit_two_cpus():
    # 1 encoder at 0.5, 1 llm at 0.5, one task of 0.4
    check_resources(ResourcesConfig(), has_llm=True, nodes=TWO_CPUS)


def test_actors_that_take_all_cpus_are_refused_since_no_task_could_run():
    resources = ResourcesConfig(encoder_cpus=1, llm_cpus=1)
    with pytest.raises(ConfigError, match=r"needs 2.4 CPUs .* the cluster has 2"):
        check_resources(resources, has_llm=True, nodes=TWO_CPUS)


def test_without_an_llm_its_actors_do_not_count():
    check_resources(ResourcesConfig(encoder_cpus=1, llm_cpus=1), has_llm=False, nodes=TWO_CPUS)


def test_gpus_are_counted_apart():
    resources = ResourcesConfig(encoder_gpus=0.5, llm_gpus=1)
    with pytest.raises(ConfigError, match=r"needs 1.5 GPUs .* the cluster has 1"):
        check_resources(resources, has_llm=True, nodes=[{"CPU": 8.0, "GPU": 1.0}])


def test_an_actor_must_fit_one_node():
    resources = ResourcesConfig(llm_gpus=2)
    nodes = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}]
    with pytest.raises(ConfigError, match="no node can hold one llm actor"):
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


def test_actors_that_fit_in_sum_but_not_on_their_nodes_are_refused():
    resources = ResourcesConfig(llm_gpus=2, llm_actors=2)
    nodes = [{"CPU": 8.0, "GPU": 3.0}, {"CPU": 8.0, "GPU": 1.0}]
    with pytest.raises(ConfigError, match=r"2 llm actors .* the nodes hold 1: .* never spans"):
        check_resources(resources, has_llm=True, nodes=nodes)
