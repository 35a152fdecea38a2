"""The IAM policies in the comments at the top of ray_cluster.yaml."""

import json
import re

from tests.cluster.repository import ROOT

TEXT = (ROOT / "ray_cluster.yaml").read_text(encoding="utf-8")


def policies():
    """The JSON policies, in order: of the bucket, of the autoscaler."""
    comment = TEXT.split("cluster_name:")[0]
    plain = "\n".join(line.removeprefix("#").strip() for line in comment.splitlines())
    decoder = json.JSONDecoder()
    starts = [match.start() for match in re.finditer(r'\{"Version"', plain)]
    return [decoder.raw_decode(plain[start:])[0] for start in starts]


def bucket_policy():
    return policies()[0]


def actions_of(statement):
    action = statement["Action"]
    return {action} if isinstance(action, str) else set(action)


def resources_of(statement):
    resource = statement["Resource"]
    return {resource} if isinstance(resource, str) else set(resource)
