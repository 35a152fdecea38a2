"""Units through all steps in plain Python: no cluster is needed for what a worker does."""

import json
import random
from dataclasses import asdict
from itertools import accumulate

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from linkner_ray.config import (
    InputConfig,
    LlmConfig,
    RecognizeConfig,
    RoutingConfig,
    SentencesConfig,
)
from linkner_ray.config.budget import Quota
from linkner_ray.errors import ContractError
from linkner_ray.extract.unit_steps import (
    UNIT_ROW,
    apply_stages,
    fuse_units,
    read_sources,
    unit_of,
    unpack,
    write_units,
)
from linkner_ray.llm.backends.cache_backend import CacheBackend
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.prompts import Verdict
from linkner_ray.readers import list_sources
from linkner_ray.runs.counters import check_counters
from linkner_ray.stages.classify_spans import ClassifySpans
from linkner_ray.stages.recognize_spans import RecognizeSpans
from linkner_ray.stages.route_spans import RouteSpans
from tests.crawl import config_of, files_of, overrides, text_of, write_crawl, write_parquet
from tests.fakes import ScriptedBackend
from tests.spanner.tiny import LABELS, model


@pytest.fixture
def shard(tmp_path):
    write_parquet(tmp_path / "a.parquet", [text_of(0), None, text_of(2)], group=2)
    return tmp_path / "a.parquet"


def read(shard, *, done=(), quota=None, **config):
    settings = config_of(*overrides(shard, "out", "c"))
    inputs = InputConfig(paths=(str(shard),), unit_documents=2, **config)
    [source] = list_sources(inputs)
    item = {
        "source": json.dumps(asdict(source)),
        "done": list(done),
        "quota": quota and json.dumps(asdict(quota)),
    }
    tables = read_sources(
        pa.Table.from_pylist([item]),
        plan_digest="plan",
        config=inputs,
        sentences=settings.sentences,
        raw_chars=50,
    )
    return [table.to_pylist()[0] for table in tables]


def model_stages(backend=None, **routing):
    backend = backend or ScriptedBackend(LABELS, lambda _: "PER")
    llm = LlmConfig(backend="openai", model="m", base_url="http://127.0.0.1")
    return [
        RecognizeSpans(RecognizeConfig(), model(max_width=3)),
        RouteSpans(RoutingConfig(threshold=0.3, **routing)),
        ClassifySpans(backend, LABELS, config=llm),
    ]


def write(rows, output):
    config = config_of(*overrides("in", output, "c"))
    table = pa.Table.from_pylist(rows, schema=UNIT_ROW)
    unit_results = write_units(table, output=config.output, fusion=config.fusion, label_set=LABELS)
    return [json.loads(row["unit_result"]) for row in unit_results.to_pylist()]


def test_each_unit_is_a_row_with_its_documents_split_into_sentences(shard):
    rows = read(shard)
    assert [(row["first_record"], row["num_records"], row["is_last"]) for row in rows] == [
        (0, 2, False),
        (2, 1, True),
    ]
    documents = unpack(rows[0]["documents"])
    assert documents["doc_id"].to_pylist() == ["p0"]
    assert documents["sentences"].to_pylist()[0]
    assert unpack(rows[0]["quarantine"])["reason"].to_pylist() == ["null_text"]


def test_units_that_are_done_are_not_read(shard):
    assert [row["first_record"] for row in read(shard, done=[0])] == [2]


def test_a_unit_becomes_its_files_and_a_unit_result(shard, tmp_path):
    rows = [apply_stages(row, model_stages()) for row in read(shard)]
    unit_results = write(rows, tmp_path / "out")
    assert [unit_result["num_records"] for unit_result in unit_results] == [2, 1]
    assert unit_results[0]["counts"]["documents_quarantined"] == 1
    assert set(unit_results[0]["seconds"]) >= {"ReadDocuments", "RecognizeSpans", "WriteEntities"}
    written = ds.dataset(tmp_path / "out" / "entities").to_table()
    assert sorted(written["doc_id"].to_pylist()) == ["p0", "p2"]
    entities = [entity for row in written["entities"].to_pylist() for entity in row]
    assert {entity["label"] for entity in entities if entity["source"] == "llm"} == {"PER"}


@pytest.mark.parametrize("unit_documents", [1, 2, 5, 100])
def test_the_units_of_all_shards_and_formats_get_the_calls_of_the_run(tmp_path, unit_documents):
    inputs = InputConfig(
        paths=(str(write_crawl(tmp_path / "crawl")),), unit_documents=unit_documents
    )
    sources = list_sources(inputs)
    total = sum(source.size for source in sources)
    before = accumulate((source.size for source in sources), initial=0)
    items = [
        {
            "source": json.dumps(asdict(source)),
            "done": [],
            "quota": json.dumps(asdict(Quota(calls=101, total_bytes=total, bytes_before=b))),
        }
        for source, b in zip(sources, before, strict=False)
    ]
    units = read_sources(
        pa.Table.from_pylist(items),
        plan_digest="plan",
        config=inputs,
        sentences=SentencesConfig(),
        raw_chars=9,
    )
    quota = [
        int(unpack(unit["documents"][0].as_py()).schema.metadata[b"linkner.max_asked"])
        for unit in units
    ]
    assert len(quota) >= len(sources)
    assert min(quota) >= 0
    assert sum(quota) == 101


@pytest.mark.parametrize("calls", [1, 7, 10_000])
def test_units_ask_no_more_calls_than_the_run_has_wherever_one_resumes(shard, tmp_path, calls):
    quota = Quota(calls=calls, total_bytes=shard.stat().st_size)
    stages = model_stages(budget=f"{calls} calls")
    counts = [
        unit_result["counts"]
        for unit_result in write(
            [apply_stages(row, stages) for row in read(shard, quota=quota)],
            tmp_path / "out",
        )
    ]
    for count in counts:
        check_counters(count)
    routed = [count["routed"] for count in counts]
    uncertain = [count["routed"] + count["over_budget"] for count in counts]
    # Either there are enough for every part, or few enough for the smaller one.
    assert sum(routed) == min(calls, sum(uncertain)) > 0
    [again] = [apply_stages(row, stages) for row in read(shard, quota=quota, done=[0])]
    write([again], tmp_path / "again")
    [second] = (tmp_path / "again" / "entities").iterdir()
    assert second.read_bytes() == (tmp_path / "out" / "entities" / second.name).read_bytes()


def test_a_unit_that_lost_a_row_on_the_way_is_not_written(shard, tmp_path):
    [first, _] = [apply_stages(row, model_stages()) for row in read(shard)]
    first["num_records"] = 3
    with pytest.raises(ContractError, match="3 records in, 2 accounted for"):
        write([first], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_documents_at_hand_go_the_same_way_without_being_written(shard):
    [unit] = read(shard, done=[0])
    row = apply_stages(unit_of(unpack(unit["documents"]), "x"), model_stages())
    batch = pa.Table.from_pylist([row], schema=UNIT_ROW)
    fused = fuse_units(batch, fusion=config_of(*overrides("i", "o", "c")).fusion, label_set=LABELS)
    assert unpack(fused["documents"][0].as_py())["entities"].to_pylist()[0]


def moody(seed):
    """Answers every question by chance, now and then with something unreadable."""
    dice = random.Random(seed)

    def script(_request):
        if dice.random() < 0.1:
            return Verdict.UNREADABLE
        return {label: dice.random() for label in LABELS.classes}

    return ScriptedBackend(LABELS, script)


def test_a_second_run_with_the_cache_asks_nothing_and_writes_the_same_bytes(shard, tmp_path):
    written, costs, backends = [], [], []
    for night in range(2):
        backend = moody(night)
        cache = AnswerCache(str(tmp_path / "cache"), model="m", classes=LABELS.classes)
        stages = model_stages(CacheBackend(backend, cache))
        unit_results = write(
            [apply_stages(row, stages) for row in read(shard)], tmp_path / str(night)
        )
        written.append(files_of(tmp_path / str(night)))
        costs.append([unit_result["costs"] for unit_result in unit_results])
        backends.append(backend)
    assert written[0] == written[1]
    assert len(written[0]) == 5  # 2 units with entities and candidates, one with a quarantine
    assert backends[0].requests
    assert not backends[1].requests
    for first, second in zip(*costs, strict=True):
        questions = first["questions_asked"] + first["questions_from_cache"]
        assert second["questions_from_cache"] == questions > 0
        assert second["questions_asked"] == second["prompt_tokens_asked"] == 0
    tables = [
        ds.dataset(tmp_path / "1" / folder).to_table() for folder in ("entities", "candidates")
    ]
    assert "cache" not in str(tables[0]["entities"].to_pylist())
    assert "'source': 'llm'" in str(tables[1]["answers"].to_pylist())


def test_without_the_cache_such_a_run_would_write_other_bytes(shard, tmp_path):
    for night in range(2):
        stages = model_stages(moody(night))
        write([apply_stages(row, stages) for row in read(shard)], tmp_path / str(night))
    assert files_of(tmp_path / "0") != files_of(tmp_path / "1")
