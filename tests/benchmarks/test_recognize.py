import json

import pytest

from benchmarks import recognize
from benchmarks.workload import has_bfloat16
from tests.spanner import tiny

TIMED = ("bare_encoder", "stage")

KEYS = {
    *("sentences", "words", "rounds", "threads", "batch_tokens"),
    *("load_average_before", "load_average_after"),
    *(f"words_per_s_{name}" for name in recognize.WAYS),
    *(f"best_words_per_s_{name}" for name in recognize.WAYS),
    *(f"cpu_us_per_word_{name}" for name in recognize.WAYS),
    "share_padding",
    *("ratio_stage_to_bare_encoder", "ratio_stage_bfloat16_to_bare_encoder"),
    *("share_encoder", "share_head", "share_tokenisation", "share_decoding", "share_arrow"),
    "share_around_the_model",
    *("peak_memory_mib_bare_encoder", "peak_memory_mib_stage"),
}

HALF_KEYS = {
    *("bfloat16_same_label_share", "bfloat16_max_score_difference", "bfloat16_holds"),
    *("f1_float32", "f1_bfloat16"),
}
"""Where the machine computes bfloat16 itself."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny.model().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "dev.conll"
    path.write_text(
        "EU B-ORG\nrejects O\nGerman O\ncall O\n\n"
        "Peter B-PER\nBlackburn I-PER\nmet O\nAngela B-PER\nMerkel I-PER\n\n"
        "Paris B-LOC\n, O\nLondon B-LOC\nand O\nNew B-LOC\nYork I-LOC\n\n"
    )
    return str(path)


def test_the_table_and_every_key(checkpoint, corpus, tmp_path, capsys):
    target = tmp_path / "numbers.json"
    arguments = ["--data", corpus, "--checkpoint", checkpoint, "--rounds", "2", "--threads", "1"]
    numbers = recognize.main([*arguments, "--sentences", "2", "--json", str(target)])
    assert json.loads(target.read_text()) == numbers
    assert numbers.keys() == KEYS | (HALF_KEYS if has_bfloat16() else set())
    timed = (*TIMED, "stage_bfloat16") if has_bfloat16() else TIMED
    assert (numbers["sentences"], numbers["words"], numbers["rounds"]) == (2, 9, 2)
    shares = [numbers[f"share_{name}"] for name in ("encoder", "head", "around_the_model")]
    assert sum(shares) == pytest.approx(1.0, abs=0.1)  # medians over rounds
    printed = capsys.readouterr().out
    assert "| way | words/s | best | CPU us a word | best to bare |" in printed
    assert all(f"| {name.replace('_', ' ')} |" in printed for name in timed)


def test_agreement_counts_labels_scores_and_f1():
    def table(*rows):
        return recognize.pa.table({"candidates": list(rows)})

    def candidate(start, label, score, kind="predicted"):
        return {
            "start": start, "end": start + 1, "label": label, "kind": kind,
            "label_probs": [1 - score, score],
        }  # fmt: skip

    exact = table([candidate(0, "PER", 0.9), candidate(5, "LOC", 0.6)], [candidate(2, "PER", 0.5)])
    half = table([candidate(0, "PER", 0.7), candidate(5, "PER", 0.6)], [])
    gold = [[recognize.GoldEntity(0, 1, "PER")], []]
    found = recognize.agreement(exact, half, gold)
    assert found.same_label_share == pytest.approx(1 / 3)
    assert found.max_score_difference == pytest.approx(0.2)
    # float32: 1 right of 3 predicted, 1 gold: 2 / 4; bfloat16: 1 right of 2: 2 / 3
    assert found.f1 == pytest.approx((0.5, 2 / 3))
    assert not found.holds
    assert recognize.agreement(exact, half, None).holds
