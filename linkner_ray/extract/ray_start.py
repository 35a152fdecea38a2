"""The Ray of a run: that of RAY_ADDRESS, or one of its own on this machine."""

import logging
import os
import time
from pathlib import Path

import ray

from linkner_ray.errors import StartupError
from linkner_ray.logs import adopt, is_json, keep_in, log_as_json, log_as_worker


def start_ray() -> None:
    """Connect to the cluster of RAY_ADDRESS, as under `ray job submit`, or start one here.

    One that is started here ends with this process, and has no dashboard.

    Raises:
        StartupError: If there is no Ray at the address, or none came up here.
    """
    if ray.is_initialized():
        return
    # "local": what an earlier head left in /tmp/ray would be connected to, dead or alive.
    address = os.environ.get("RAY_ADDRESS") or "local"
    # Else Ray starts a process for each core that stays unused: ours begin with `begin_worker`.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    if address == "local":
        # By default Ray Data asks for the fractions of CPUs that its tasks take, and rounds down
        # what that leaves of a node: it uses 1.2 of 2 CPUs. V2 asks for whole nodes: here for one.
        os.environ.setdefault("RAY_DATA_CLUSTER_AUTOSCALER", "V2")
    adopt("ray")
    started = time.monotonic()
    try:
        context = ray.init(
            address=address,
            include_dashboard=False,
            logging_level=logging.WARNING,
            runtime_env={
                "worker_process_setup_hook": begin_json_worker if is_json() else begin_worker
            },
        )
    except Exception as error:  # what Ray raises when it is not up in time has no narrower type
        raise StartupError(_describe(address, time.monotonic() - started, error)) from error
    fingerprint = getattr(context, "address_info", None)
    if fingerprint is not None:  # with Ray Client, as for ray://, another process is the driver
        keep_in(Path(fingerprint["session_dir"]) / "logs")


def _describe(address: str, seconds: float, error: Exception) -> str:
    if address == "local":
        return (
            f"Ray did not start on this machine in {seconds:.0f} s: {error}; the machine is busy "
            "or short of memory: try again, or let RAY_ADDRESS name a Ray that is running"
        )
    return (
        f"RAY_ADDRESS={address}: Ray does not answer: {error}; start it, correct the address, or "
        "unset RAY_ADDRESS to have one on this machine"
    )


def begin_worker() -> None:
    """First call in each process of a run's Ray, where logs are text."""
    _tell_address()
    log_as_worker()


def begin_json_worker() -> None:
    """First call in each process of a run's Ray, where logs are JSON."""
    _tell_address()
    log_as_json()


def _tell_address() -> None:
    """Set RAY_ADDRESS; without it, parts of Ray connect to any Ray on the machine."""
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
