"""grafana_dashboard.json and alerts.yaml: what they ask Prometheus for is what the code exports."""

import json
import re

import pytest
import yaml
from ray.util.metrics import Counter, Histogram, Metric

from linkner_ray.extract.metrics import COUNTED, RunMetrics, count_rebuilds
from tests.cluster.repository import ROOT

DASHBOARD = json.loads((ROOT / "cluster/grafana_dashboard.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((ROOT / "cluster/alerts.yaml").read_text(encoding="utf-8"))
RUNBOOK = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")

RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
EXPRESSIONS = [*QUERIES, *(rule["expr"] for rule in RULES)]

RAY_TAGS = {"SessionName", "NodeAddress"}
"""Tags that Ray puts on every sample."""


def metrics():
    run = RunMetrics(shards=1)
    found = [value for value in vars(run).values() if isinstance(value, Metric)]
    return [*found, *(counter for _, counter in run._counters), count_rebuilds().__self__]


def exported():
    """Names as Ray's endpoint shows them (see `test_run_metrics`), with the tags of each."""
    tags = {}
    for metric in metrics():
        match metric:
            case Counter():
                suffixes, more = ["_total"], set()
            case Histogram():
                suffixes, more = ["_bucket", "_count", "_sum"], {"le"}
            case _:
                suffixes, more = [""], set()
        name = f"ray_{metric.info['name']}"
        tags |= {name + suffix: {*metric.info["tag_keys"], *more} for suffix in suffixes}
    return tags


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_and_tag_that_is_queried_is_exported(expression):
    names = re.findall(r"\b(?:ray_)?linkner_\w+", expression)
    assert names
    known = exported()
    tags = set(re.findall(r"(\w+)=~?\"", expression))
    for group in re.findall(r"by \(([\w, ]+)\)", expression):
        tags |= set(group.split(", "))
    assert set(names) <= set(known)
    assert tags <= RAY_TAGS.union(*(known[name] for name in names))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_value_of_a_tag_that_is_queried_is_one_the_code_gives(expression):
    values = {(counted.tag, value) for counted in COUNTED for value in counted.of}
    values |= {("state", "waiting"), ("state", "done"), ("stage", "WriteEntities")}
    assert set(re.findall(r"(\w+)=\"(\w+)\"", expression)) <= values


def test_every_metric_that_is_exported_is_shown():
    shown = set(re.findall(r"\bray_linkner_\w+", " ".join(QUERIES)))
    for metric in metrics():
        assert any(name.startswith(f"ray_{metric.info['name']}") for name in shown), metric.info


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23


def test_every_panel_says_what_it_shows_and_legends_name_a_tag_that_is_summed_by():
    for panel in PANELS:
        assert panel["description"]
        assert len(panel["targets"]) == len({target["refId"] for target in panel["targets"]})
        for target in panel["targets"]:
            for tag in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{tag}\b", target["expr"]), panel["title"]


def test_every_alert_is_explained_in_the_runbook_and_no_other():
    section = RUNBOOK.partition("### What an alert means")[2].partition("\n##")[0]
    explained = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
    assert sorted(explained) == sorted(rule["alert"] for rule in RULES)


def test_alerts_have_what_prometheus_needs():
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_bounds_of_alerts_are_those_of_the_config():
    from linkner_ray.config import ErrorsConfig

    bounds = {rule["alert"]: float(rule["expr"].rpartition(">")[2].strip(" =\n")) for rule in RULES}
    limits = ErrorsConfig()
    assert bounds["LinknerQuarantineShare"] == limits.max_share
    assert bounds["LinknerFailedAnswers"] == limits.max_failed_answers_share
    assert bounds["LinknerFilesQuarantined"] == limits.max_failed_files
