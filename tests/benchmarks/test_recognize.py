import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import recognize
from benchmarks.workload import has_bfloat16
from tests.spanner import tiny

TIMED = ("bare_encoder", "tokenizer", "encode_words", "stage", "stage_reading_all")

KEYS = {
    *("documents", "sentences", "words", "rounds", "threads", "batch_tokens"),
    *("load_average_before", "load_average_after"),
    *(f"words_per_s_{name}" for name in recognize.WAYS),
    *(f"best_words_per_s_{name}" for name in recognize.WAYS),
    *(f"cpu_us_per_word_{name}" for name in recognize.WAYS),
    *("share_padding", "share_repeated"),
    *("ratio_stage_to_bare_encoder", "ratio_stage_bfloat16_to_bare_encoder"),
    *("ratio_stage_to_bare_encoder_cpu", "ratio_stage_to_reading_all_cpu"),
    *("ratio_processor_work_to_tokenizer", "cpu_us_per_word_around_the_model"),
    *(f"share_{part}" for part in recognize.PARTS),
}


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
    timed = (*TIMED, "stage_bfloat16") if has_bfloat16() else TIMED
    assert numbers.keys() == KEYS | {f"peak_memory_mib_{name}" for name in timed}
    assert (numbers["sentences"], numbers["words"], numbers["rounds"]) == (2, 9, 2)
    shares = [numbers[f"share_{name}"] for name in ("encoder", "head", "around_the_model")]
    assert sum(shares) == pytest.approx(1.0, abs=0.1)  # medians over rounds
    printed = capsys.readouterr().out
    assert "| way | words/s | best | CPU us a word | best to bare |" in printed
    assert all(f"| {name.replace('_', ' ')} |" in printed for name in timed)


def test_pages_of_one_host_and_the_share_that_repeats(checkpoint, tmp_path):
    pages = {
        "text": ["Home Paris\nObama met Merkel", "Home Paris\nBerlin", None, "Home Paris"],
        "url": ["https://one.org/a", "https://one.org/b", "http://one.org", "https://two.org"],
    }
    pq.write_table(pa.table(pages), tmp_path / "part.parquet")
    arguments = ["--checkpoint", checkpoint, "--rounds", "1", "--pages", str(tmp_path)]
    numbers = recognize.main([*arguments, "--host", "one.org"])
    assert (numbers["documents"], numbers["sentences"], numbers["words"]) == (3, 4, 8)
    # Two of eight words stand in a line that was read before.
    assert numbers["share_repeated"] == pytest.approx(0.25)
    numbers = recognize.main([*arguments, "--documents", "1"])
    assert (numbers["documents"], numbers["words"]) == (1, 5)
