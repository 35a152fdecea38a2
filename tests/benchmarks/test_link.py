"""The benchmark of links, on a local model that knows nothing and an LLM that knows all."""

import json
import random

import pytest

from benchmarks import link
from linkner_ray.api import LinkNER
from tests.crawl import write_checkpoint


def test_a_good_llm_gains_and_a_dealt_out_one_is_not_asked(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    linkner = LinkNER.from_pretrained(checkpoint)
    rng = random.Random(0)
    corpus, recording = [], []
    for number in range(120):
        tokens = [*rng.choices(["ada", "paris", "the", "in", "saw", "of"], k=6), f"w{number}"]
        # Every other entity is where the local model finds one, or gold would be no candidate.
        found = linkner.predict([" ".join(tokens)])[0]
        first = " ".join(tokens)[: found[0].start].count(" ") if found and number % 2 else 0
        tags = ["O"] * len(tokens)
        last = first + len(found[0].text.split()) if found and number % 2 else 1
        label = rng.choice(linkner.label_set.ids)
        tags[first:last] = [f"B-{label}", *[f"I-{label}"] * (last - first - 1)]
        corpus += [*map("\t".join, zip(tokens, tags, strict=True)), ""]
        entities = [[first, last, label]]
        recording.append(json.dumps({"index": number, "tokens": tokens, "entities": entities}))
    (tmp_path / "set.conll").write_text("\n".join(corpus) + "\n")
    (tmp_path / "llm.jsonl").write_text("\n".join(recording) + "\n")
    pair = f"all={checkpoint}:{tmp_path}/set.conll:{tmp_path}/llm.jsonl"

    json_path, plot = tmp_path / "n.json", tmp_path / "gains.svg"
    numbers = link.main(
        ["--pair", pair, "--draws", "1", "--json", str(json_path), "--plot", str(plot)]
    )

    assert json.loads(json_path.read_text()) == numbers
    assert "all (local " in plot.read_text()
    assert numbers["f1_llm_all"] == pytest.approx(100)
    assert numbers["link_100%_all"] > 10
    assert numbers["link_100%_all"] >= numbers["link_10%_all"] >= 0
    assert numbers["link_of_dealt_answers_100%_all"] == 0
    assert ", LLM 100.00; it is right about 100.0 % of" in capsys.readouterr().out
