"""What the pipeline asks Ray for: the pools of a config, an engine's GPUs, cores of its own."""

import pytest

from linkner_ray.config import ExtractConfig
from linkner_ray.errors import ConfigError
from linkner_ray.extract.pipeline import Chain, _prepare, add_model_stages
from tests.spanner.tiny import LABELS


class AskedFor:
    """Stands in for a dataset and notes what is mapped over it."""

    def __init__(self):
        self.stages = []

    def map_batches(self, _, **options):
        self.stages.append(options)
        return self


def chain(resources, **llm):
    config = ExtractConfig(
        input={"paths": ["crawl/"]},
        output={"path": "out/"},
        recognize={"checkpoint": "model/"},
        llm={"model": "judge", **llm},
        resources=resources,
    )
    return Chain.of(config, LABELS)


def asked_for(resources, **llm):
    return add_model_stages(AskedFor(), chain(resources, **llm)).stages


def test_an_engine_asks_for_all_its_gpus_at_once_so_that_they_are_of_one_node():
    _, engines = asked_for({"llm_gpus": 4, "llm_actors": 2}, tensor_parallel_size=4)
    assert engines["num_gpus"] == 4
    assert (engines["compute"].min_size, engines["compute"].max_size) == (2, 2)


def test_encoders_come_and_go():
    encoders, _ = asked_for({"encoder_actors": 2, "max_encoder_actors": 6})
    assert (encoders["compute"].min_size, encoders["compute"].max_size) == (2, 6)


@pytest.mark.parametrize(("actors", "own"), [(1, False), (2, True)])
def test_only_several_engines_keep_to_cores_of_their_own(actors, own):
    _, engines = asked_for({"llm_actors": actors})
    [make_stages] = engines["fn_constructor_args"]
    assert make_stages.keywords == {"own_cores": own}


def test_an_engine_with_fewer_gpus_than_parts_is_refused_before_it_starts():
    with pytest.raises(ConfigError, match=r"set resources\.llm_gpus=2"):
        _prepare(chain({"llm_gpus": 1, "check": False}, tensor_parallel_size=2))
