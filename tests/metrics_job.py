"""A driver that extracts and then says what its node's endpoint for Prometheus shows.

`python -m tests.metrics_job OVERRIDE ...` prints one JSON object: `samples`, `totals`, `costs`,
`units`, `seconds` by stage and `bytes` by file.
"""

import json
import sys
import time
import urllib.request
from collections import Counter

import ray
from prometheus_client.parser import text_string_to_metric_families

from linkner_ray.extract.job import extract
from linkner_ray.extract.metrics import count_rebuilds
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.runs.manifest import read_manifest
from linkner_ray.storage import Folder
from tests.crawl import config_of

PREFIX = "ray_linkner_"
OWN_TAGS = {"status", "place", "kind", "route", "verdict", "answered_by", "source", "stage"} | {
    "folder", "state", "reason", "le",
}  # fmt: skip


def scrape():
    """Samples of ours: `[name, own tags, value]`."""
    [node] = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
        return [
            [s.name, {tag: v for tag, v in s.labels.items() if tag in OWN_TAGS}, s.value]
            for family in families
            for s in family.samples
            if s.name.startswith(PREFIX)
        ]


def normalised(is_done):
    """Samples once they are what is waited for, or after a minute."""
    end = time.monotonic() + 60
    while not is_done(samples := scrape()) and time.monotonic() < end:
        time.sleep(0.2)
    return samples


@ray.remote(num_cpus=0)
class Engine:
    def rebuild(self):
        count_rebuilds()()


def main(arguments):
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _system_config={"metrics_report_interval_ms": 200},
    )
    plan = plan_extraction(config_of(*arguments))
    result = extract(plan)
    engine = Engine.remote()
    ray.get([engine.rebuild.remote() for _ in range(3)])
    samples = normalised(
        lambda found: (
            [f"{PREFIX}engine_rebuilds_total", {}, 3.0] in found
            and [f"{PREFIX}shards", {"state": "waiting"}, 0.0] in found
        )
    )
    seconds = Counter()
    for unit_result in result.unit_results:
        seconds.update(unit_result.seconds)
    files = read_manifest(Folder.at(plan.config.output.path)).files.select(["path", "bytes"])
    sizes = {file["path"]: file["bytes"] for file in files.to_pylist()}
    fingerprint = {"samples": samples, "totals": result.totals, "costs": result.costs}
    fingerprint |= {"units": len(result.unit_results), "seconds": seconds, "bytes": sizes}
    sys.stdout.write(json.dumps(fingerprint) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
