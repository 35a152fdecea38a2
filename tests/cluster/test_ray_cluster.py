"""ray_cluster.yaml: Ray's own checks, EC2's own model, and what its pools would start."""

import copy
import re

import botocore.session
import jsonschema
import pytest
import yaml
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

from linkner_ray.config import ExtractConfig
from linkner_ray.config.loading import load_config
from tests.cluster.policies import actions_of, policies
from tests.cluster.repository import IMAGE_TAG, ROOT

TEXT = (ROOT / "ray_cluster.yaml").read_text(encoding="utf-8")

EXTRACT_CONFIG = str(ROOT / "jobs/configs/extract_gpu.yaml")
ENVIRONMENT = {"LINKNER_INPUT": "crawl/", "LINKNER_OUTPUT": "out/", "LINKNER_CHECKPOINT": "model/"}


@pytest.fixture
def cluster():
    return yaml.safe_load(TEXT)


@pytest.fixture(scope="module")
def run_instances():
    service = botocore.session.get_session().get_service_model("ec2")
    return service.operation_model("RunInstances").input_shape


def problems_of_node(node_config, shape):
    # Ray adds these two itself.
    asked = {**node_config, "MinCount": 1, "MaxCount": 1}
    return ParamValidator().validate(asked, shape).generate_report()


def test_ray_accepts_the_file(cluster):
    validate_config(prepare_config(cluster))


def test_a_misspelt_key_is_refused(cluster):
    for tree, key in (
        (cluster["available_node_types"]["encoder"], "max_workers"),
        (cluster, "idle_timeout_minutes"),
    ):
        tree[key[:-1]] = tree.pop(key)
        with pytest.raises(jsonschema.ValidationError, match=f"'{key[:-1]}' was unexpected"):
            validate_config(prepare_config(cluster))
        tree[key] = tree.pop(key[:-1])


@pytest.mark.parametrize("kind", ["head", "reader", "encoder", "llm"])
def test_ec2_accepts_each_node(cluster, run_instances, kind):
    node_config = cluster["available_node_types"][kind]["node_config"]
    assert problems_of_node(node_config, run_instances) == ""


@pytest.mark.parametrize(
    ("path", "misspelt"),
    [
        (("InstanceType",), "InstanceTyp"),
        (("IamInstanceProfile", "Name"), "Nam"),
        (("MetadataOptions", "HttpTokens"), "HttpToken"),
        (("InstanceMarketOptions", "MarketType"), "Market"),
    ],
)
def test_a_misspelt_field_of_a_node_is_refused(cluster, run_instances, path, misspelt):
    node_config = copy.deepcopy(cluster["available_node_types"]["encoder"]["node_config"])
    branch = node_config
    for key in path[:-1]:
        branch = branch[key]
    branch[misspelt] = branch.pop(path[-1])
    assert misspelt in problems_of_node(node_config, run_instances)


def test_values_that_ec2_knows_only_by_name_are_known(cluster, run_instances):
    # ParamValidator does not look at enumerations.
    instance_types = run_instances.members["InstanceType"].enum
    market = run_instances.members["InstanceMarketOptions"].members["MarketType"].enum
    for node_type in cluster["available_node_types"].values():
        assert node_type["node_config"]["InstanceType"] in instance_types
        chosen = node_type["node_config"].get("InstanceMarketOptions", {"MarketType": "spot"})
        assert chosen["MarketType"] in market


def test_pools_start_at_zero_and_their_limits_add_up(cluster):
    workers = [n for kind, n in cluster["available_node_types"].items() if kind != "head"]
    assert all(0 == node["min_workers"] < node["max_workers"] for node in workers)
    assert sum(node["max_workers"] for node in workers) == cluster["max_workers"]


def test_no_work_runs_on_the_head(cluster):
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0


def test_only_what_is_soon_replaced_is_on_spot(cluster):
    spot = {
        kind
        for kind, node in cluster["available_node_types"].items()
        if "InstanceMarketOptions" in node["node_config"]
    }
    assert spot == {"reader", "encoder"}


def test_nothing_is_installed_on_a_node(cluster):
    # Without these keys, Ray would install a nightly build of itself and the newest boto3.
    prepared = prepare_config(cluster)
    for name in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert prepared[name] == []


def test_every_node_runs_the_image_of_this_version(cluster):
    assert cluster["docker"]["image"].endswith(f":{IMAGE_TAG}")
    assert not {"head_image", "worker_image"} & cluster["docker"].keys()
    assert not any("docker" in node for node in cluster["available_node_types"].values())


def test_authentication_is_on_and_the_token_is_elsewhere(cluster):
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert "/home/ray/.ray/auth_token" in cluster["file_mounts"]
    assert not re.search(r"RAY_AUTH_TOKEN=|AKIA[0-9A-Z]{16}|aws_secret", TEXT)


def test_every_node_has_a_role_of_its_own(cluster):
    # Without one, Ray makes a role with full access to EC2 and S3 and gives it to the head.
    for node in cluster["available_node_types"].values():
        assert node["node_config"]["IamInstanceProfile"]["Name"].startswith("linkner-")


def test_the_head_may_look_at_and_start_instances_but_change_only_its_own():
    _, autoscaler = policies()
    unbound = [s for s in autoscaler["Statement"] if s["Resource"] == "*" and "Condition" not in s]
    assert set().union(*map(actions_of, unbound)) == {"ec2:Describe*", "ec2:RunInstances"}


def nodes_started(cluster, demands):
    """Nodes by type that Ray's autoscaler would start for demands, from an empty cluster."""
    types = {
        kind: NodeTypeConfig(
            name=kind,
            min_worker_nodes=node["min_workers"],
            max_worker_nodes=node["max_workers"],
            resources=node["resources"],
        )
        for kind, node in cluster["available_node_types"].items()
    }
    requests = [ResourceRequestUtil.make(demand) for demand in demands]
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=types,
            max_num_nodes=cluster["max_workers"] + 1,
            resource_requests=ResourceRequestUtil.group_by_count(requests),
        )
    )
    assert not reply.infeasible_resource_requests
    return {request.instance_type: request.count for request in reply.to_launch}


def extract_resources():
    overrides = ["resources.llm_cpus=6", "resources.read_cpus=1"]
    return load_config(ExtractConfig, EXTRACT_CONFIG, overrides, environment=ENVIRONMENT).resources


def test_engines_start_llm_nodes_and_nothing_else(cluster):
    resources = extract_resources()
    engine = {"CPU": resources.llm_cpus, "GPU": resources.llm_gpus}
    assert nodes_started(cluster, [engine] * resources.llm_actors) == {"llm": resources.llm_actors}


def test_the_largest_encoder_pool_fits_the_encoder_nodes(cluster):
    resources = extract_resources()
    encoder = {"CPU": resources.encoder_cpus, "GPU": resources.encoder_gpus}
    # 8 actors of half a GPU on nodes of one GPU
    assert nodes_started(cluster, [encoder] * resources.max_encoder_actors) == {"encoder": 4}


def test_all_actors_and_tasks_of_a_start_find_a_node(cluster):
    resources = extract_resources()
    demands = [
        *[{"CPU": resources.encoder_cpus, "GPU": resources.encoder_gpus}]
        * resources.encoder_actors,
        *[{"CPU": resources.llm_cpus, "GPU": resources.llm_gpus}] * resources.llm_actors,
        *[{"CPU": resources.read_cpus}] * 16,
    ]
    started = nodes_started(cluster, demands)
    # an engine each on two nodes; the two encoders share a third GPU, of whichever kind
    assert started["llm"] >= resources.llm_actors
    assert started["llm"] + started.get("encoder", 0) == 3
    assert started["reader"] == 1


def test_reading_starts_nodes_without_a_gpu(cluster):
    # 40 tasks of one CPU on nodes of 16
    task = {"CPU": extract_resources().read_cpus}
    assert nodes_started(cluster, [task] * 40) == {"reader": 3}


def test_an_engine_fits_llm_nodes_only_and_always_has_one(cluster):
    resources = extract_resources()
    types = cluster["available_node_types"]
    assert resources.llm_cpus > types["encoder"]["resources"]["CPU"]
    assert resources.llm_cpus <= types["llm"]["resources"]["CPU"]
    # each of the first encoders may hold a GPU that an engine would need
    assert types["llm"]["max_workers"] >= resources.llm_actors + resources.encoder_actors
