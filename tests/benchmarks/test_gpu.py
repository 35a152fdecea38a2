import json
import subprocess
import sys

import pytest

from benchmarks import gpu

NOT_THERE = ("ray", "vllm", "transformers", "icu4py", "blingfire", "scipy", "fastwarc")

IMPORT_WITHOUT = f"""
import sys
for name in {NOT_THERE}:
    sys.modules[name] = None  # an import of it fails
import benchmarks.gpu
"""


def test_a_table_of_a_tiny_shape(tmp_path, capsys):
    target = tmp_path / "numbers.json"
    options = ["--shapes", "tiny", "--batch-tokens", "1024", "--pages", "3", "--seconds", "0.01"]
    (row,) = gpu.main([*options, "--json", str(target)])
    assert json.loads(target.read_text())["rows"] == [row]
    assert row["words_per_s"] == pytest.approx(400 * row["pages_per_s"])
    parts = ("encoder", "head", "around_the_model")
    assert sum(row[f"share_{part}"] for part in parts) == pytest.approx(1.0, abs=0.1)
    assert 0 < row["share_of_peak"] < 1
    assert row["share_model_alone"] > 0
    assert "| shape | batch_tokens | actors |" in capsys.readouterr().out


def test_pages_have_400_words_of_which_most_are_one_subword():
    pages = gpu.make_pages(2)
    words = pages["text"][1].as_py().split()
    assert len(words) == 400
    (sentences,) = pages["sentences"][1:].to_pylist()
    assert sum(len(sentence["tokens"]) for sentence in sentences) == 400
    last = sentences[-1]
    text = pages["text"][1].as_py()
    assert text[last["start"] : last["end"]].split() == words[-20:]
    assert text[last["tokens"][0]["start"] : last["tokens"][0]["end"]] == words[-20]
    ids = gpu.make_tokenizer().encode(words, is_pretokenized=True, add_special_tokens=False).ids
    assert 400 < len(ids) < 520
    assert 1 not in ids  # no unknown word


def test_operations_of_the_encoder_by_hand():
    stage = gpu.load("tiny", 1024)
    pages = gpu.make_pages(1)
    lengths = gpu.windows_of(stage, pages).lengths
    # A layer of width 32 and inner width 64: four products of 32 x 32, two of 32 x 64; attention
    # of L subwords multiplies twice L x L by 32. Two operations for each multiplication.
    weights = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    expected = sum(2 * weights * n + 2 * 2 * 2 * n * n * 32 for n in lengths.tolist())
    assert gpu.model_flops(stage, pages) == pytest.approx(expected)


def test_actors_count_only_while_all_are_at_work():
    # From 2 to 4 the first does two passes, the second a half of one.
    assert gpu.common_rate([[0, 1, 2, 3, 4], [2, 6]]) == pytest.approx((2 + 0.5) / 2)
    with pytest.raises(ValueError, match="raise --seconds"):
        gpu.common_rate([[0, 1], [2, 3]])


def test_it_needs_no_library_that_a_machine_with_a_gpu_may_lack():
    subprocess.run([sys.executable, "-c", IMPORT_WITHOUT], check=True)
