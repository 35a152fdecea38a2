"""cluster/rayjob.yaml and cluster/nightly.yaml: structure, limits, secrets, and what they start."""

import copy
import json
import re
import shlex

import jsonschema
import pytest
import yaml

from linkner_ray.config import NightlyConfig
from linkner_ray.config.loading import load_config
from tests.cluster.repository import IMAGE_TAG, RAY_VERSION, ROOT, images

SCHEMA = json.loads((ROOT / "cluster/schemas/kubernetes.json").read_text(encoding="utf-8"))
RAYJOB_TEXT = (ROOT / "cluster/rayjob.yaml").read_text(encoding="utf-8")
NIGHTLY_TEXT = (ROOT / "cluster/nightly.yaml").read_text(encoding="utf-8")

KINDS = ["ServiceAccount", "ServiceAccount", "Role", "RoleBinding", "CronJob"]


def check(thing):
    jsonschema.Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{thing['kind']}"}).validate(thing)


@pytest.fixture
def rayjob():
    return plain(yaml.safe_load(RAYJOB_TEXT.replace("NIGHT", "2026-11-23")))


@pytest.fixture
def nightly():
    return plain([thing for thing in yaml.safe_load_all(NIGHTLY_TEXT) if thing])


def plain(tree):
    """Without the sharing of YAML anchors, so that a change touches one place."""
    return json.loads(json.dumps(tree))


def find(things, kind, name="linkner-nightly"):
    [thing] = [t for t in things if t["kind"] == kind and t["metadata"]["name"] == name]
    return thing


def pods(tree):
    """Every pod specification of a tree."""
    if isinstance(tree, dict):
        own = [tree] if "containers" in tree else []
        return own + [pod for value in tree.values() for pod in pods(value)]
    return [pod for value in tree for pod in pods(value)] if isinstance(tree, list) else []


def paths(tree, prefix=()):
    """Paths of all keys of a tree."""
    branches = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in branches:
        if isinstance(tree, dict):
            yield (*prefix, key)
        if isinstance(value, (dict, list)):
            yield from paths(value, (*prefix, key))


def renamed(tree, path):
    """A copy of a tree in which the key at a path is misspelt."""
    changed = copy.deepcopy(tree)
    branch = changed
    for key in path[:-1]:
        branch = branch[key]
    branch[f"{path[-1]}z"] = branch.pop(path[-1])
    return changed


def is_free(path):
    """Whether a key is a name that its author chose: of a label, or of a selector."""
    return len(path) > 1 and path[-2] in {"labels", "annotations", "nodeSelector"}


def test_both_files_have_the_structure_of_their_kinds(rayjob, nightly):
    check(rayjob)
    assert [thing["kind"] for thing in nightly] == KINDS
    for thing in nightly:
        check(thing)


def test_every_misspelt_key_is_refused(rayjob, nightly):
    checked = 0
    for thing in [rayjob, *nightly]:
        for path in paths(thing):
            if path == ("kind",) or is_free(path):
                continue
            with pytest.raises(jsonschema.ValidationError):
                check(renamed(thing, path))
            checked += 1
    assert checked > 200


CONTAINER = "spec.rayClusterSpec.workerGroupSpecs.2.template.spec.containers.0"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("spec.backoffLimit", "1"),
        ("spec.activeDeadlineSeconds", 0),
        ("spec.rayClusterSpec.authOptions.mode", "tokens"),
        ("spec.rayClusterSpec.rayVersion", 2.6),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("metadata.name", "linkner-NIGHT"),  # as it is before the night is filled in
        (f"{CONTAINER}.resources.limits.cpu", 1.5),
        # So a secret can come from a Secret alone.
        (f"{CONTAINER}.env.0", {"name": "HF_TOKEN", "value": "a secret"}),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(rayjob, place, value):
    *above, last = (int(key) if key.isdigit() else key for key in place.split("."))
    branch = rayjob
    for key in above:
        branch = branch[key]
    branch[last] = value
    with pytest.raises(jsonschema.ValidationError):
        check(rayjob)


def test_every_pod_runs_the_image_of_this_version(rayjob, nightly):
    [image] = images([rayjob, nightly])
    assert image.endswith(f":{IMAGE_TAG}")
    [launcher] = images(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8")))
    assert image == launcher
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == RAY_VERSION


def test_authentication_is_on(rayjob):
    assert rayjob["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("text", [RAYJOB_TEXT, NIGHTLY_TEXT])
def test_no_secret_is_written_down(text):
    assert not re.search(r"AKIA[0-9A-Z]{16}|hf_\w{20}|stringData|kind: Secret", text)


def test_no_variable_of_the_job_is_a_secret(rayjob):
    variables = yaml.safe_load(rayjob["spec"]["runtimeEnvYAML"])["env_vars"]
    assert not [name for name in variables if re.search(r"KEY|TOKEN|SECRET|PASSWORD", name)]


def test_pods_are_restricted(rayjob, nightly):
    found = pods([rayjob, nightly])
    assert len(found) == 5  # head, three groups, the pod of the CronJob
    for pod in found:
        assert pod["securityContext"]["runAsUser"] == 1000  # the user of the image
    workers = [pod for group in worker_groups(rayjob).values() for pod in pods(group)]
    assert all(pod["automountServiceAccountToken"] is False for pod in workers)


def test_the_nightly_pod_may_create_and_read_rayjobs_only(nightly):
    assert find(nightly, "Role")["rules"] == [
        {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]}
    ]
    binding = find(nightly, "RoleBinding")
    assert binding["roleRef"]["name"] == "linkner-nightly"
    assert [subject["name"] for subject in binding["subjects"]] == ["linkner-nightly"]
    [pod] = pods(find(nightly, "CronJob"))
    assert pod["serviceAccountName"] == "linkner-nightly"


def test_the_service_account_of_the_ray_pods_exists(rayjob, nightly):
    for pod in pods(rayjob):
        assert find(nightly, "ServiceAccount", pod["serviceAccountName"])


def test_nights_do_not_overlap_and_end(rayjob, nightly):
    spec = find(nightly, "CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    outer = spec["jobTemplate"]["spec"]["activeDeadlineSeconds"]
    attempts = rayjob["spec"]["backoffLimit"] + 1
    assert attempts * rayjob["spec"]["activeDeadlineSeconds"] < outer < 24 * 3600
    assert 0 < spec["startingDeadlineSeconds"] < 24 * 3600
    assert spec["failedJobsHistoryLimit"] > 0


def test_only_a_lost_pod_is_replaced_in_a_night(nightly):
    spec = find(nightly, "CronJob")["spec"]["jobTemplate"]["spec"]
    [rule] = spec["podFailurePolicy"]["rules"]
    [container] = spec["template"]["spec"]["containers"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["containerName"] == container["name"]
    # start_night.py ends with 1 by itself, with 137 or 143 when it is killed
    assert rule["onExitCodes"]["values"] == [1]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # the policy asks for it


def test_a_finished_job_leaves_no_cluster(rayjob):
    assert rayjob["spec"]["shutdownAfterJobFinishes"] is True
    assert 0 < rayjob["spec"]["ttlSecondsAfterFinished"] <= 3600


def worker_groups(rayjob):
    return {
        group["groupName"]: group for group in rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    }


def node_of(group):
    """Logical resources of one pod of a group, as Ray derives them from its limits."""
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    return {"CPU": float(limits["cpu"]), "GPU": float(limits.get("nvidia.com/gpu", 0))}


def job_config(rayjob):
    """The config of the job, from its own entry point and variables."""
    words = shlex.split(rayjob["spec"]["entrypoint"])
    assert words[:3] == ["python", "/opt/linkner/jobs/nightly.py", "--config"]
    path = ROOT / words[3].removeprefix("/opt/linkner/")
    variables = yaml.safe_load(rayjob["spec"]["runtimeEnvYAML"])["env_vars"]
    return load_config(NightlyConfig, str(path), words[4:], environment=variables)


def test_groups_start_at_zero_and_grow(rayjob):
    for group in worker_groups(rayjob).values():
        assert 0 == group["minReplicas"] == group["replicas"] < group["maxReplicas"]
    head = rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"


def test_requests_equal_limits(rayjob):
    # A pod that uses more than it asked for is the first to be ended when memory is short.
    for pod in pods(rayjob):
        resources = pod["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]


def test_the_job_fits_the_cluster_at_its_largest(rayjob):
    from linkner_ray.extract.resources import check_resources

    resources = job_config(rayjob).resources
    nodes = [
        node_of(group)
        for group in worker_groups(rayjob).values()
        for _ in range(group["maxReplicas"])
    ]
    largest = resources.model_copy(update={"encoder_actors": resources.max_encoder_actors})
    check_resources(largest, has_llm=True, nodes=nodes)
    assert resources.check is False  # nodes come on demand


def test_an_engine_fits_llm_pods_only_and_always_has_one(rayjob):
    resources = job_config(rayjob).resources
    groups = worker_groups(rayjob)
    assert node_of(groups["encoder"])["CPU"] < resources.llm_cpus <= node_of(groups["llm"])["CPU"]
    assert resources.llm_gpus <= node_of(groups["llm"])["GPU"]
    # each of the first encoders may hold a GPU that an engine would need
    assert groups["llm"]["maxReplicas"] >= resources.llm_actors + resources.encoder_actors


def test_the_night_names_the_job_its_input_and_its_output(rayjob):
    config = job_config(rayjob)
    assert rayjob["metadata"]["name"] == "linkner-2026-11-23"
    assert config.input.paths == ("s3://linkner-example/crawl/2026-11-23/",)
    assert config.extraction().output.path == "s3://linkner-example/entities/2026-11-23"


def test_the_cluster_launcher_and_kuberay_offer_the_same_pools(rayjob):
    types = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))[
        "available_node_types"
    ]
    for name, group in worker_groups(rayjob).items():
        assert types[name]["max_workers"] == group["maxReplicas"]
        selector = group["template"]["spec"]["nodeSelector"]
        node_config = types[name]["node_config"]
        assert selector["node.kubernetes.io/instance-type"] == node_config["InstanceType"]
        on_spot = selector["eks.amazonaws.com/capacityType"] == "SPOT"
        assert on_spot == ("InstanceMarketOptions" in node_config)
        # a pod leaves room for the kubelet
        assert node_of(group)["CPU"] == types[name]["resources"]["CPU"] - 1


def test_the_nightly_pod_starts_the_script_of_the_image_with_the_template(nightly):
    [pod] = pods(find(nightly, "CronJob"))
    [container] = pod["containers"]
    _, script, template = container["command"]
    assert (ROOT / script.removeprefix("/opt/linkner/")).exists()
    [mount] = container["volumeMounts"]
    [volume] = pod["volumes"]
    assert template == f"{mount['mountPath']}/rayjob.yaml"
    assert mount["name"] == volume["name"]
    # the name under which the comment at the top creates it
    assert f"create configmap {volume['configMap']['name']} --from-file=cluster/rayjob.yaml" in (
        NIGHTLY_TEXT
    )
