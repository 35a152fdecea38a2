import json

import pytest

from benchmarks import uncertainty
from tests.spanner import tiny

CORPUS = (
    "Peter B-PER\nBlackburn I-PER\nmet O\nMicrosoft B-ORG\n. O\n\n"
    "Paris B-LOC\n, O\nLondon B-LOC\nand O\nNew B-LOC\nYork I-LOC\n. O\n\n"
)
QUALITY = {"f1", "precision", "recall", "reach", "reach_predicted", "extra_share", "ece", "brier"}


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "set.conll"
    path.write_text(CORPUS)
    return path


def run(tmp_path, corpus, **model):
    tiny.model(**model).save_pretrained(tmp_path / "checkpoint")
    return uncertainty.main(
        [
            *("--checkpoint", str(tmp_path / "checkpoint"), "--set", f"mine={corpus}"),
            *("--samples", "2", "--threads", "1", "--plots", str(tmp_path / "plots")),
            *("--json", str(tmp_path / "numbers.json")),
        ]
    )


def test_every_estimate_the_checkpoint_has_is_measured(tmp_path, corpus, capsys):
    numbers = run(tmp_path, corpus)
    estimates = {key.removeprefix("mine_auroc_") for key in numbers if "_auroc_" in key}
    assert estimates == uncertainty.ESTIMATES.keys() - {"evidential"}
    assert {f"mine_{name}" for name in QUALITY} <= numbers.keys()
    assert json.loads((tmp_path / "numbers.json").read_text()) == numbers
    assert (tmp_path / "plots" / "reliability-mine.png").read_bytes().startswith(b"\x89PNG")
    assert "| mine |" in capsys.readouterr().out


def test_evidence_is_measured_where_the_loss_gives_it(tmp_path, corpus):
    numbers = run(tmp_path, corpus, loss="evidential", dropout=0.0)
    estimates = {key.removeprefix("mine_auroc_") for key in numbers if "_auroc_" in key}
    assert estimates == {"confidence", "entropy", "evidential"}


def test_gold_decides_no_candidate(tmp_path, corpus):
    numbers = run(tmp_path, corpus)
    corpus.write_text(CORPUS.replace("B-LOC", "B-PER"))
    other = run(tmp_path, corpus)
    assert other["mine_extra_share"] == numbers["mine_extra_share"]
    assert other["mine_f1"] != numbers["mine_f1"] or other["mine_ece"] != numbers["mine_ece"]
