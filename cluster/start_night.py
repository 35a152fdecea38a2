"""Start the RayJob of a night and wait for its end: `start_night.py rayjob.yaml`.

Runs in a pod of the CronJob in nightly.yaml. Safe to start twice: the RayJob is named by its date,
and one that is there already is waited for.
"""

import argparse
import json
import logging
import os
import re
import ssl
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

import yaml

logger = logging.getLogger("start_night")

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts the token, the namespace and the certificate of its API."""

POLL_INTERVAL_S = 30.0

MAX_LOST_CALLS = 20
"""Calls in a row that the API may fail to answer, ten minutes of them, before the wait is over."""

FAILED = frozenset({"Failed", "ValidationFailed"})


class StartError(Exception):
    """The night cannot be started or followed."""


def night_of(job_name: str) -> date:
    """The night that a Kubernetes Job stands for.

    Args:
        job_name: As a CronJob makes it, ending in minutes since 1970, or as a person does, ending
            in a date.

    Raises:
        StartError: If the name ends in neither.
    """
    if match := re.search(r"-(\d{4}-\d{2}-\d{2})$", job_name):
        try:
            return date.fromisoformat(match[1])
        except ValueError as error:
            raise StartError(f"job name '{job_name}': {match[1]} is no date") from error
    if match := re.search(r"-(\d{8,9})$", job_name):
        return datetime.fromtimestamp(int(match[1]) * 60, UTC).date()
    raise StartError(
        f"job name '{job_name}' ends in no date and in no minute of a CronJob; name it such as "
        "linkner-nightly-2026-11-23, or give --night 2026-11-23"
    )


def rayjob_of(template: str, night: date) -> dict[str, Any]:
    """The RayJob of a night.

    Args:
        template: Text of cluster/rayjob.yaml, in which NIGHT stands for the date.
        night: The date.

    Raises:
        StartError: If the template does not name the night, so that nights would collide.
    """
    rayjob: dict[str, Any] = yaml.safe_load(template.replace("NIGHT", night.isoformat()))
    if night.isoformat() not in rayjob["metadata"]["name"]:
        raise StartError(
            "the template's metadata.name holds no NIGHT: every night would be the first"
        )
    return rayjob


class RayJobs:
    """The RayJobs of one namespace, through the Kubernetes API."""

    def __init__(self, connect: Callable[[], HTTPConnection], account: Path = ACCOUNT) -> None:
        """Read the namespace; nothing is called yet."""
        self.connect = connect
        self.account = account
        namespace = (account / "namespace").read_text(encoding="utf-8").strip()
        self.path = f"/apis/ray.io/v1/namespaces/{namespace}/rayjobs"

    def create(self, rayjob: dict[str, Any]) -> bool:
        """Create a RayJob; False if one of its name is there."""
        status, answer = self._call("POST", self.path, json.dumps(rayjob).encode())
        if status == 409:
            return False
        if status != 201:
            raise StartError(f"creating the RayJob: {status} {answer.get('message', answer)}")
        return True

    def status(self, name: str) -> dict[str, Any]:
        """What KubeRay says of a RayJob; empty until it has looked at it.

        Raises:
            StartError: If the RayJob is gone or may not be read.
            ConnectionError: If the API did not answer.
        """
        code, answer = self._call("GET", f"{self.path}/{name}")
        if code >= 500 or code == 429:
            raise ConnectionError(f"the API answered {code}")
        if code != 200:
            raise StartError(f"reading RayJob {name}: {code} {answer.get('message', answer)}")
        found: dict[str, Any] = answer.get("status", {})
        return found

    def _call(
        self, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, dict[str, Any]]:
        # Read each time: Kubernetes replaces the token every hour.
        token = (self.account / "token").read_text(encoding="utf-8").strip()
        connection = self.connect()
        try:
            connection.request(
                method,
                path,
                body=body,
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            raise ConnectionError(f"{method} {path}: {error}") from error
        finally:
            connection.close()
        try:
            return response.status, json.loads(content)
        except ValueError:
            return response.status, {"message": content[:200].decode(errors="replace")}


def wait_for(jobs: RayJobs, name: str, *, interval_s: float = POLL_INTERVAL_S) -> bool:
    """Wait until a RayJob has ended.

    Returns:
        Whether the job succeeded. One that was stopped has not, though KubeRay calls it complete.

    Raises:
        StartError: If the RayJob is gone, or the API stays away.
    """
    shown, lost = "", 0
    while True:
        try:
            status = jobs.status(name)
            lost = 0
        except ConnectionError as error:
            lost += 1
            if lost > MAX_LOST_CALLS:
                raise StartError(f"{error}, {lost} times in a row") from error
            status = {}
        deployment = status.get("jobDeploymentStatus", "")
        line = f"{deployment} {status.get('jobStatus', '')} {status.get('message', '')}".strip()
        if line and line != shown:
            logger.info("%s: %s", name, line)
            shown = line
        if deployment == "Complete":
            return bool(status.get("jobStatus") == "SUCCEEDED")
        if deployment in FAILED:
            return False
        time.sleep(interval_s)


def connect_in_cluster() -> HTTPConnection:
    """A connection to the Kubernetes API from inside a pod."""
    return HTTPSConnection(
        os.environ["KUBERNETES_SERVICE_HOST"],
        int(os.environ["KUBERNETES_SERVICE_PORT"]),
        timeout=30,
        context=ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")),
    )


def main() -> int:
    """Start and follow a night; 0 if its job succeeded, 1 otherwise."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("template", type=Path, help="cluster/rayjob.yaml")
    parser.add_argument("--night", type=date.fromisoformat, help="a date; default: from JOB_NAME")
    arguments = parser.parse_args()
    try:
        night = arguments.night or night_of(os.environ.get("JOB_NAME", ""))
        rayjob = rayjob_of(arguments.template.read_text(encoding="utf-8"), night)
        name = rayjob["metadata"]["name"]
        jobs = RayJobs(connect_in_cluster)
        logger.info("%s: %s", name, "created" if jobs.create(rayjob) else "is there already")
        return 0 if wait_for(jobs, name) else 1
    except (StartError, OSError) as error:
        logger.error("start_night: %s", error)  # noqa: TRY400 - the message says it all
        return 1


if __name__ == "__main__":
    sys.exit(main())
