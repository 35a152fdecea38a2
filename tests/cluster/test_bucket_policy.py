"""The policy of the bucket allows what runs do there, and little else."""

from fnmatch import fnmatchcase

import pytest
import s3fs

from tests.cluster.policies import actions_of, bucket_policy, resources_of
from tests.crawl import write_checkpoint, write_crawl
from tests.in_process import extract_in_process, plan_of

BUCKET = "linkner-example"

ACTIONS = {
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "delete_object": "s3:DeleteObject",
    "delete_objects": "s3:DeleteObject",
    "list_objects_v2": "s3:ListBucket",
    "head_bucket": "s3:ListBucket",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
}
"""Rights that calls ask for, as in "Actions, resources, and condition keys for Amazon S3"."""


def allows(action, resource):
    return any(
        action in actions_of(statement)
        and any(fnmatchcase(resource, pattern) for pattern in resources_of(statement))
        for statement in bucket_policy()["Statement"]
    )


@pytest.fixture
def asked(s3, monkeypatch):
    """Rights that calls of S3 have asked for, each with its resource."""
    found = set()
    call = s3fs.S3FileSystem._call_s3

    async def watched(self, method, *args, **kwargs):
        given = {**(args[0] if args else {}), **kwargs}
        keys = [given["Key"]] if "Key" in given else []
        keys += [item["Key"] for item in given.get("Delete", {}).get("Objects", [])]
        resources = [f"arn:aws:s3:::{given['Bucket']}/{key}" for key in keys]
        for resource in resources or [f"arn:aws:s3:::{given['Bucket']}"]:
            found.add((ACTIONS[method], resource))
        return await call(self, method, *args, **kwargs)

    store = s3fs.S3FileSystem(endpoint_url=s3["AWS_ENDPOINT_URL"], key="test", secret="test")
    store.mkdir(BUCKET)
    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", watched)
    return found


def test_a_run_asks_for_no_right_that_the_policy_withholds(asked, monkeypatch, tmp_path):
    store = s3fs.S3FileSystem()
    crawl = write_crawl(tmp_path / "crawl")
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    store.put(str(crawl), f"{BUCKET}/crawl/2026-11-23", recursive=True)
    store.put(checkpoint, f"{BUCKET}/checkpoints/spanner", recursive=True)
    asked.clear()
    url = f"s3://{BUCKET}"
    output = f"{url}/entities/2026-11-23"
    for _ in range(2):  # the second time, a complete output is opened again
        plan = plan_of(f"{url}/crawl/2026-11-23", output, f"{url}/checkpoints/spanner")
        extract_in_process(monkeypatch, plan)
    assert store.exists(f"{output}/_SUCCESS")
    assert {action for action, _ in asked} >= {"s3:PutObject", "s3:GetObject", "s3:DeleteObject"}
    assert [(action, resource) for action, resource in asked if not allows(action, resource)] == []


def test_input_and_checkpoints_may_only_be_read():
    for prefix in ("crawl/2026-11-23/a.parquet", "checkpoints/spanner/model.safetensors"):
        resource = f"arn:aws:s3:::{BUCKET}/{prefix}"
        assert {action for action in set(ACTIONS.values()) if allows(action, resource)} == {
            "s3:GetObject"
        }


def test_another_bucket_is_closed():
    for action in set(ACTIONS.values()):
        assert not allows(action, "arn:aws:s3:::another")
        assert not allows(action, "arn:aws:s3:::another/entities/a")


def test_nothing_is_allowed_that_no_run_asks_for():
    allowed = set().union(*map(actions_of, bucket_policy()["Statement"]))
    assert allowed <= set(ACTIONS.values())
