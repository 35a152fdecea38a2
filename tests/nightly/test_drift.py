"""How far two nights differ: the measure, the groups, and when it says nothing."""

import json
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from linkner_ray.config import DriftConfig
from linkner_ray.nightly.drift import OVERALL, host_of, measure_drift, stability_index
from linkner_ray.runs.folder import parquet_bytes
from linkner_ray.runs.manifest import (
    FileEntry,
    FileList,
    as_json,
    with_sources,
    write_manifest,
)
from linkner_ray.schemas import CANDIDATES_OUTPUT, OUTPUT
from linkner_ray.storage import Folder


def counts(*values):
    return np.array(values, np.int64)


def test_the_index_is_the_sum_that_its_definition_says():
    # With 1/2 added: before (10, 30) / 40, after (20, 20) / 40.
    before, after = counts(9, 29), counts(19, 19)
    q, p = (9.5 / 39, 29.5 / 39), (0.5, 0.5)
    expected = sum((b - a) * math.log(b / a) for a, b in zip(q, p, strict=True))
    assert stability_index(before, after) == pytest.approx(expected)
    assert stability_index(after, before) == pytest.approx(expected)


def test_equal_shares_have_no_drift_and_an_empty_night_no_index():
    assert stability_index(counts(5, 5), counts(5, 5)) == 0
    assert stability_index(counts(0, 0), counts(5, 5)) is None
    assert stability_index(counts(5, 5), counts(0, 0)) is None


def test_a_bin_that_one_night_lacks_is_much_and_not_infinite():
    found = stability_index(counts(1000, 0), counts(500, 500))
    # (1/2 - 1) ln(1/2) + (1/2 - 0.0005) ln(1/2 / 0.0005), nearly
    assert found == pytest.approx(0.347 + 3.45, abs=0.02)


@pytest.mark.parametrize("count", [200, 1000])
def test_without_any_change_the_index_is_what_the_config_says_of_it(count):
    rng = np.random.default_rng(0)
    shares = np.full(20, 1 / 20)
    found = [
        stability_index(rng.multinomial(count, shares), rng.multinomial(count, shares))
        for _ in range(400)
    ]
    assert np.mean(found) == pytest.approx(19 * 2 / count, rel=0.1)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Example.ORG:8443/a?b#c", "example.org"),
        ("no address", ""),
        (None, ""),
        ("http://[::1", ""),
        ("https://user@example.org/", "example.org"),
    ],
)
def test_the_host_of_an_address(url, host):
    assert host_of(url) == host


def write_night(folder, documents):
    """A finished night; a document is (url, lang, labels, [(uncertainty, route), ...])."""
    output = Folder.at(str(folder))
    rows, beside = [], []
    for number, (url, lang, labels, candidates) in enumerate(documents):
        entity = {"start": 0, "end": 1, "text": "x", "score": 1.0, "uncertainty": 0.0}
        entities = [{**entity, "label": label, "source": "local"} for label in labels]
        row = dict.fromkeys(OUTPUT.names, 0)
        row |= {"doc_id": str(number), "url": url, "lang": lang, "entities": entities}
        rows.append(row | {"doc_digest": "0" * 32, "status": "entities"})
        beside.append(
            {
                "doc_id": str(number),
                "candidates": [{"uncertainty": value} for value, _ in candidates],
                "routes": [route for _, route in candidates],
            }
        )
    parts = []
    for half, start in enumerate((0, len(rows) // 2)):
        end = len(rows) // 2 if half == 0 else len(rows)
        for below, part, schema in (
            ("entities", rows[start:end], OUTPUT),
            ("candidates", beside[start:end], CANDIDATES_OUTPUT),
        ):
            content = parquet_bytes(pa.Table.from_pylist(part, schema=schema))
            output.write_whole(f"{below}/part-{half}.parquet", content)
        parts.append(FileEntry.read(output, f"entities/part-{half}.parquet"))
    labels = {"labels": [{"id": "PER"}, {"id": "LOC"}]}
    run = {"plan": {}, "label_set": labels, "config": {"output": {}}, "code": {}}
    output.write_whole("_run.json", json.dumps(run).encode())
    listed = FileList(parts).table()
    nowhere = {"paths": pa.array([], pa.string()), "places": [], "sources": []}
    write_manifest(output, {}, with_sources(listed, **nowhere))
    output.write_whole("_SUCCESS", b"")
    return str(folder)


def night_of(rng, *, hosts, location_share, uncertain=0.3, size=240):
    documents = []
    for number in range(size):
        host = hosts[number % len(hosts)]
        share = location_share.get(host, 0.2)
        labels = ["LOC" if rng.random() < share else "PER" for _ in range(5)]
        values = rng.beta(1, 1 / uncertain, 6)
        candidates = [(float(v), "llm" if v >= 0.4 else "local") for v in values]
        documents.append((f"https://{host}/{number}", ("en", "de")[number % 2], labels, candidates))
    return documents


def rows_of(report):
    return {(one.kind, one.name, one.measure): one for one in report.drifts}


def test_one_host_that_changed_is_found_among_others(tmp_path):
    rng = np.random.default_rng(1)
    hosts = ["a.org", "b.org", "c.org"]
    before = night_of(rng, hosts=hosts, location_share={})
    after = night_of(rng, hosts=hosts, location_share={"b.org": 0.9})
    nights = write_night(tmp_path / "1", before), write_night(tmp_path / "2", after)
    config = DriftConfig(min_count=300)
    found = rows_of(measure_drift(*nights, config))
    assert found["host", "b.org", "labels"].verdict == "alert"
    assert found["host", "a.org", "labels"].verdict == "stable"
    assert found["host", "b.org", "routed"].verdict == "stable"
    assert found["overall", "", "labels"].verdict == "warn"
    strict = measure_drift(*nights, config)
    assert strict.verdict == "alert"
    assert [one.name for one in strict.alerts] == ["b.org"]
    lenient = measure_drift(*nights, config.model_copy(update={"gate": "overall"}))
    assert lenient.verdict == "warn"
    assert lenient.alerts == []


def by_hand(documents, kind, name, measure):
    """A histogram of one group, one document at a time."""
    counted = Counter()
    for url, lang, labels, candidates in documents:
        if (kind, name) not in (OVERALL, ("host", host_of(url)), ("language", lang)):
            continue
        counted.update(
            {
                "labels": [("PER", "LOC").index(label) for label in labels],
                "uncertainty": [min(int(np.float32(v) * 20.0), 19) for v, _ in candidates],
                "routed": [int(route == "llm") for _, route in candidates],
            }[measure]
        )
    return counts(*(counted[b] for b in range({"uncertainty": 20}.get(measure, 2))))


def test_histograms_are_those_that_counting_by_hand_gives(tmp_path):
    rng = np.random.default_rng(2)
    hosts = ["a.org", "b.org"]
    nights = []
    for number, uncertain in enumerate((0.3, 0.6)):
        documents = night_of(rng, hosts=hosts, location_share={}, uncertain=uncertain)
        documents += [(None, None, [], []), ("https://a.org/", None, [], [(1.0, "over_budget")])]
        nights.append((documents, write_night(tmp_path / str(number), documents)))
    found = rows_of(measure_drift(nights[0][1], nights[1][1], DriftConfig(min_count=1)))

    assert {key[:2] for key in found} == {
        OVERALL, ("host", "a.org"), ("host", "b.org"), ("language", "en"), ("language", "de"),
    }  # fmt: skip
    for key, drift in found.items():
        first, second = (by_hand(documents, *key) for documents, _ in nights)
        assert (drift.count_before, drift.count_after) == (first.sum(), second.sum())
        assert drift.psi == pytest.approx(stability_index(first, second))
    assert found["overall", "", "uncertainty"].verdict == "alert"


def test_few_candidates_get_no_verdict_however_much_they_differ(tmp_path):
    rng = np.random.default_rng(3)
    before = night_of(rng, hosts=["a.org"], location_share={}, size=20)
    after = night_of(rng, hosts=["a.org"], location_share={"a.org": 1.0}, size=20)
    nights = write_night(tmp_path / "1", before), write_night(tmp_path / "2", after)
    report = measure_drift(*nights, DriftConfig())
    assert {one.verdict for one in report.drifts} == {"few"}
    assert report.verdict == "few"
    assert rows_of(report)["overall", "", "labels"].psi > 0.25
    assert as_json(report.as_json())


def test_only_the_largest_hosts_of_tonight_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("linkner_ray.runs.part_work.PIECE_FILES", 1)
    rng = np.random.default_rng(4)
    before = night_of(rng, hosts=["gone.org"], location_share={}, size=40)
    after = night_of(rng, hosts=["a.org", "b.org", "a.org"], location_share={}, size=40)
    nights = write_night(tmp_path / "1", before), write_night(tmp_path / "2", after)
    report = measure_drift(*nights, DriftConfig(hosts=1, languages=0))
    assert {(one.kind, one.name) for one in report.drifts} == {OVERALL, ("host", "a.org")}
    assert rows_of(report)["host", "a.org", "labels"].psi is None
    # Each half of the night is a file: a.org is the largest of neither, and of the whole.
    halves = [["b.org"] * 5 + ["a.org"] * 4, ["c.org"] * 5 + ["a.org"] * 4]
    documents = [(f"https://{host}", "en", [], []) for half in halves for host in half]
    night = write_night(tmp_path / "3", documents)
    for hosts, names in ((1, ["a.org"]), (2, ["a.org", "b.org"])):
        report = measure_drift(night, night, DriftConfig(hosts=hosts, languages=0))
        assert [one.name for one in report.drifts if one.kind == "host"][::3] == names


def test_bounds_in_the_wrong_order_are_refused():
    with pytest.raises(ValidationError, match="is above drift"):
        DriftConfig(warn=0.3)
