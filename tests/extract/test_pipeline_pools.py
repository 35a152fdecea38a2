"""What the pipeline asks Ray for: the pools of a config, an engine's GPUs."""

import pytest

from linkner_ray.config import ExtractConfig, LlmConfig, ResourcesConfig
from linkner_ray.extract.pipeline import add_model_steps
from linkner_ray.extract.resources import without_idle_gpus
from linkner_ray.stages.chain import Chain
from tests.spanner.tiny import LABELS


class AskedFor:
    """Stands in for a dataset and notes what is mapped over it."""

    def __init__(self):
        self.steps = []

    def map_batches(self, _, **options):
        self.steps.append(options)
        return self


def config_of(resources, **llm):
    return ExtractConfig(
        input={"paths": ["crawl/"]},
        output={"path": "out/"},
        recognize={"checkpoint": "model/"},
        llm={"model": "judge", **llm},
        resources=resources,
    )


def asked_for(resources, **llm):
    config = config_of(resources, **llm)
    return add_model_steps(AskedFor(), Chain.of(config, LABELS), config.resources).steps


def test_an_engine_asks_for_all_its_gpus_at_once_so_that_they_are_of_one_node():
    _, engines = asked_for({"llm_gpus": 4, "llm_actors": 2}, tensor_parallel_size=4)
    assert engines["num_gpus"] == 4
    assert (engines["compute"].min_size, engines["compute"].max_size) == (2, 2)


def test_encoders_come_and_go():
    encoders, _ = asked_for({"encoder_actors": 2, "max_encoder_actors": 6})
    assert (encoders["compute"].min_size, encoders["compute"].max_size) == (2, 6)


@pytest.mark.parametrize(("backend", "gpus"), [("replay", 0), ("vllm", 2)])
def test_a_replay_takes_no_gpu(backend, gpus):
    llm = LlmConfig(backend=backend, model="judge")
    assert without_idle_gpus(ResourcesConfig(llm_gpus=2), llm).llm_gpus == gpus
