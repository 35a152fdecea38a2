"""The benchmark of links, on a local model that knows nothing and an LLM that knows all."""

import json
import random

import pytest
import torch

from benchmarks import link
from linkner_ray.api import LinkNER
from tests.crawl import write_checkpoint


def test_a_good_llm_gains_and_a_dealt_out_one_is_not_asked(tmp_path, capsys):
    torch.manual_seed(0)
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    labels = LinkNER.from_pretrained(checkpoint).label_set.ids
    rng = random.Random(0)
    corpus, recording = [], []
    for number in range(120):
        tokens = [*rng.choices(["ada", "paris", "the", "in", "saw", "of"], k=6), f"w{number}"]
        first, label = rng.randrange(5), rng.choice(labels)
        tags = ["O"] * len(tokens)
        tags[first] = f"B-{label}"
        corpus += [*map("\t".join, zip(tokens, tags, strict=True)), ""]
        entities = [[first, first + 1, label]]
        recording.append(json.dumps({"index": number, "tokens": tokens, "entities": entities}))
    (tmp_path / "set.conll").write_text("\n".join(corpus) + "\n")
    (tmp_path / "llm.jsonl").write_text("\n".join(recording) + "\n")
    pair = f"all={checkpoint}:{tmp_path}/set.conll:{tmp_path}/llm.jsonl"

    numbers = link.main(["--pair", pair, "--draws", "1", "--json", str(tmp_path / "n.json")])

    assert json.loads((tmp_path / "n.json").read_text()) == numbers
    assert numbers["f1_llm_all"] == pytest.approx(100)
    assert numbers["link_100%_all"] > 10
    assert numbers["link_100%_all"] >= numbers["link_10%_all"] >= 0
    assert numbers["link_of_dealt_answers_100%_all"] == 0
    assert "LLM alone 100.00" in capsys.readouterr().out
