import json
from collections import Counter

import pyarrow as pa
import pytest

from linkner_ray.config import InputConfig
from linkner_ray.readers import list_sources, sampling
from linkner_ray.readers.sampling import draw_sample
from tests.crawl import write_parquet


@pytest.fixture
def shards(tmp_path):
    """A Parquet shard and a JSONL, each of 20 documents of 10 kB."""
    texts = [f"{number} {'a word ' * 1_400}" for number in range(40)]
    write_parquet(tmp_path / "a.parquet", texts[:20])
    lines = [json.dumps({"doc_id": f"j{n}", "text": text}) for n, text in enumerate(texts[20:])]
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    return InputConfig(paths=(str(tmp_path),), unit_documents=5)


def draw(config, **settings):
    samples = draw_sample(list_sources(config), config, **settings)
    return [(sample.table["doc_id"].to_pylist(), sample.weight) for sample in samples]


def test_a_sample_stands_for_the_input(shards):
    for ids, weight in draw(shards, documents=10, seed=0):
        assert len({*ids}) == 5
        assert weight == 20 / 5
    whole = draw(shards, documents=100, seed=0)
    assert {len(ids): weight for ids, weight in whole} == {20: 1.0}


def test_every_document_of_a_stream_is_drawn_as_often(shards):
    drawn = Counter()
    for seed in range(40):
        drawn.update(name for ids, _ in draw(shards, documents=20, seed=seed) for name in ids)
    of_stream = {name: count for name, count in drawn.items() if name.startswith("j")}
    assert len(of_stream) == 20
    assert all(8 <= count <= 32 for count in of_stream.values())  # 20 expected, deviation 3.2


def test_no_more_than_a_unit_and_the_sample_is_held(shards, monkeypatch):
    held = []

    def watch(source, **settings):
        before = pa.total_allocated_bytes()
        for unit in read(source, **settings):
            if source.format == "jsonl":
                held.append(pa.total_allocated_bytes() - before)
            yield unit

    read = sampling.read_units
    monkeypatch.setattr(sampling, "read_units", watch)
    draw(shards.model_copy(update={"unit_documents": 1}), documents=4, seed=0)
    assert max(held) < 80_000  # of 200,000 in the shard
