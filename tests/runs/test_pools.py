"""Pools: what is proposed fits, leaves CPUs to read with, and balances encoders against engines."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linkner_ray.config import ExtractConfig, ResourcesConfig
from linkner_ray.errors import ConfigError
from linkner_ray.runs.cluster_shape import Node
from linkner_ray.runs.packing import ActorSize, num_guaranteed
from linkner_ray.runs.pools import Rates, plan_pools
from linkner_ray.runs.resources import check_resources

# Of one actor: 10 documents a second of 5 questions each, 25 requests a second; so an engine
# answers for 5 documents a second, and two engines follow one encoder.
RATES = Rates(
    documents=36_000,
    documents_per_s=10.0,
    questions_per_document=5.0,
    requests_per_s=25.0,
    split_s=0.01,
)


def config(*, resources=None, llm=None, recognize=None):
    return ExtractConfig(
        input={"paths": ["crawl/"]},
        output={"path": "out/"},
        recognize={"checkpoint": "model/", **(recognize or {})},
        llm={"model": "judge", **(llm or {})},
        resources=resources or {},
    )


def values(plan):
    return {name: choice.value for name, choice in plan.resources.items()}


def nodes_of(nodes):
    return [node.resources() for node in nodes]


def held_at_most(resources, *, has_llm):
    engines = resources.llm_actors * resources.llm_cpus if has_llm else 0.0
    return (resources.max_encoder_actors or 0) * resources.encoder_cpus + engines


def test_cpus_go_to_whoever_holds_up_the_other():
    plan = plan_pools(config(llm={"num_threads": 1}), [Node(64)], RATES)
    found = values(plan)
    # one CPU each and 0.9 for a task: 63 to share. With 43 engines, 5 * 43 = 215 documents a
    # second; 20 encoders would read 200, with 42 engines 21 read 210 = 5 * 42. A CPU in a hundred
    # documents is split with: 2.1, of which 0.9 are kept anyway.
    encoders, engines = found["max_encoder_actors"], found["llm_actors"]
    assert engines == pytest.approx(2 * encoders, abs=2)
    assert 60 <= encoders + engines <= 63
    times = {pool.name: pool.hours for pool in plan.pools}
    # 36,000 documents at 5 a second and engine: two hours of one engine
    assert times["engines"] == pytest.approx(2 / engines)
    assert times["encoders"] == pytest.approx(1 / encoders)
    assert plan.hours == max(times.values())


def test_gpus_are_divided_with_a_fraction_for_each_encoder():
    fast = Rates(
        documents=10**6, documents_per_s=40, questions_per_document=2, requests_per_s=80,
        split_s=0.001,
    )  # fmt: skip
    found = values(plan_pools(config(), [Node(64, 8)], fast))
    assert found["encoder_gpus"] == 0.5
    assert found["llm_gpus"] == 1
    # an engine answers for 40 documents a second, as many as one encoder reads: two encoders a
    # GPU against one engine each. 5 engines: 200; 6 encoders on 3 GPUs read 240.
    assert (found["llm_actors"], found["max_encoder_actors"]) == (5, 6)
    assert found["encoder_actors"] < found["max_encoder_actors"]


def test_an_engine_of_tensor_parallel_parts_stays_on_one_node():
    nodes = [Node(32, 4), Node(32, 4)]
    found = values(plan_pools(config(llm={"tensor_parallel_size": 4}), nodes, RATES))
    # an encoder takes a GPU of one node, so that one engine is left, on the other
    assert (found["llm_gpus"], found["llm_actors"]) == (4, 1)
    with pytest.raises(ConfigError, match=r"lives on one node: it needs 8 GPUs .* more than 4"):
        plan_pools(config(llm={"tensor_parallel_size": 8}), nodes, RATES)


def test_what_one_actor_holds_stays_as_the_config_sets_it():
    asked = {"encoder_gpus": 0.25, "llm_cpus": 6}
    found = values(plan_pools(config(resources=asked), [Node(16, 2)] * 4, RATES))
    assert (found["encoder_gpus"], found["llm_cpus"]) == (0.25, 6)


def test_engines_that_share_a_gpu_must_share_its_memory():
    shared = {"llm_gpus": 0.5}
    with pytest.raises(ConfigError, match=r"gpu_memory_utilization = 0\.9"):
        plan_pools(config(resources=shared), [Node(16, 2)], RATES)
    half = config(resources=shared, llm={"gpu_memory_utilization": 0.45})
    assert values(plan_pools(half, [Node(16, 2)], RATES))["llm_gpus"] == 0.5


def test_where_an_encoder_could_take_the_engines_gpu_it_works_on_cpus():
    found = values(plan_pools(config(), [Node(8, 1)], RATES))
    assert (found["encoder_gpus"], found["llm_actors"]) == (0, 1)
    with pytest.raises(ConfigError, match="do not fit together"):
        plan_pools(config(resources={"encoder_gpus": 0.5}), [Node(8, 1)], RATES)
    # Here both would fit, and Ray may put the encoder where the engine has to go.
    nodes = [Node(8, 1), Node(4, 1)]
    asked = {"encoder_gpus": 0.5, "llm_cpus": 6}
    with pytest.raises(ConfigError, match="take the only place of an engine"):
        plan_pools(config(resources=asked), nodes, RATES)


def test_two_cpus_hold_actors_that_take_turns():
    plan = plan_pools(config(), [Node(2)], RATES)
    found = values(plan)
    assert (found["encoder_cpus"], found["llm_cpus"]) == (0.5, 0.5)
    assert (found["max_encoder_actors"], found["llm_actors"]) == (1, 1)
    assert plan.threads["llm.num_threads"].value == 1


def test_a_cluster_without_cpus_for_a_task_is_refused_by_the_deadlock_rule():
    with pytest.raises(ConfigError, match=r"Ray starts actors first .* wait for ever"):
        plan_pools(config(), [Node(0.5)], RATES)


def test_an_engine_with_more_threads_than_a_node_has_cpus_is_refused():
    with pytest.raises(ConfigError, match=r"lives on one node: llm.num_threads x .* = 16"):
        plan_pools(config(llm={"num_threads": 16}), [Node(8)] * 4, RATES)


def test_an_endpoint_has_one_client_and_needs_no_gpu():
    endpoint = {"backend": "openai", "base_url": "http://llm/v1"}
    found = values(plan_pools(config(llm=endpoint), [Node(16, 2)], RATES))
    assert (found["llm_actors"], found["llm_gpus"]) == (1, 0)
    # twice 256 requests under way, 5 * 512 a unit
    assert found["llm_concurrent_units"] == 2


def test_without_an_llm_there_is_no_pool_of_it():
    found = values(plan_pools(config(llm={"backend": "none"}), [Node(16)], RATES))
    assert not [name for name in found if name.startswith("llm")]
    # 10 documents a second take a tenth of a CPU to split: 15.1 / 1.1, and what is kept anyway
    assert found["max_encoder_actors"] == 14


def test_units_under_way_fill_an_engine_twice():
    few = Rates(
        documents=1, documents_per_s=1, questions_per_document=0.01, requests_per_s=1, split_s=0
    )
    found = values(plan_pools(config(), [Node(16)], few))
    # 512 documents ask 5.12 questions; 2 * 64 / 5.12
    assert found["llm_concurrent_units"] == 25


NODE_KINDS = st.tuples(
    st.builds(
        Node,
        st.one_of(st.integers(1, 96).map(float), st.floats(0.5, 8).map(lambda x: round(x, 2))),
        st.sampled_from([0, 0, 1, 2, 4, 8]),
    ),
    st.integers(1, 5),
)
CLUSTERS = st.lists(NODE_KINDS, min_size=1, max_size=3).map(
    lambda kinds: [node for node, count in kinds for _ in range(count)]
)
CONFIGS = st.builds(
    config,
    resources=st.fixed_dictionaries(
        {},
        optional={
            "encoder_gpus": st.sampled_from([0, 0.25, 0.4, 0.5, 1]),
            "encoder_cpus": st.sampled_from([0.5, 1, 2]),
            "llm_cpus": st.sampled_from([0.5, 2, 6]),
            "llm_gpus": st.sampled_from([0.5, 1, 2]),
        },
    ),
    llm=st.one_of(
        st.just({"backend": "none"}),
        st.just({"backend": "openai", "base_url": "http://llm/v1"}),
        st.fixed_dictionaries(
            {},
            optional={
                "tensor_parallel_size": st.sampled_from([1, 2, 4]),
                "num_threads": st.sampled_from([1, 4, 12]),
                "gpu_memory_utilization": st.just(0.45),
            },
        ),
    ),
    recognize=st.sampled_from([{}, {"num_threads": 4}]),
)
SPEEDS = st.builds(
    Rates,
    documents=st.integers(0, 10**9),
    documents_per_s=st.sampled_from([0.0, 0.1, 7.0, 4000.0]),
    questions_per_document=st.sampled_from([0.0, 0.02, 30.0]),
    requests_per_s=st.sampled_from([None, 0.5, 90.0]),
    split_s=st.sampled_from([0.0, 0.002]),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(nodes=CLUSTERS, asked=CONFIGS, rates=SPEEDS)
def test_whatever_is_proposed_passes_the_check_before_a_run(nodes, asked, rates):
    try:
        plan = plan_pools(asked, nodes, rates)
    except ConfigError:
        return
    resources = ResourcesConfig(**values(plan))
    has_llm = asked.llm.backend != "none"
    largest = resources.model_copy(update={"encoder_actors": resources.max_encoder_actors})
    for pools in (resources, largest):
        check_resources(pools, has_llm=has_llm, nodes=nodes_of(nodes))
    # Every placement of all actors leaves a node with room for a task: they leave less than that
    # on every node only if they hold more than this.
    task = max(resources.read_cpus, resources.write_cpus)
    free = sum(node.cpus for node in nodes) - held_at_most(resources, has_llm=has_llm)
    nodes_with_room = sum(node.cpus >= task for node in nodes)
    too_small = sum(node.cpus for node in nodes if node.cpus < task)
    assert free >= nodes_with_room * task + too_small - 1e-6
    assert nodes_with_room
    assert resources.read_cpus != resources.encoder_cpus
    if asked.llm.backend == "vllm":
        engine = ActorSize(resources.llm_cpus, resources.llm_gpus)
        encoder = ActorSize(resources.encoder_cpus, resources.encoder_gpus)
        first = resources.encoder_actors
        places = num_guaranteed(nodes, engine, encoders=first, encoder=encoder)
        assert places >= resources.llm_actors
