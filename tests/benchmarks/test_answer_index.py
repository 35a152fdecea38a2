import json

import pytest

from benchmarks import answer_index
from linkner_ray.errors import ContractError
from linkner_ray.llm.cache.answer_cache import AnswerCache


def test_both_processes_are_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(answer_index, "_in_a_process", lambda measure: measure())
    numbers = answer_index.main(["--entries", "700", "--json", str(tmp_path / "n.json")])
    assert json.loads((tmp_path / "n.json").read_text()) == numbers
    for way in ("first", "next"):
        assert numbers[f"{way}_found_per_cpu_s_700"] > 0
    # A key, a row of 12 bytes and 4 for each of 19 classes; and what tells one file
    assert 104 < numbers["index_bytes_per_entry_700"] < 105
    assert "| 700 entries |" in capsys.readouterr().out


def test_a_cache_that_lost_answers_is_not_timed(tmp_path):
    answer_index.write_answers(tmp_path, 99, ["O", "A", "B"])
    cache = AnswerCache(str(tmp_path), model=answer_index.MODEL, classes=("O", "A", "B"))
    with pytest.raises(ContractError, match="answers were found; nothing is timed"):
        answer_index._found_per_s(cache, 200)


def test_the_answers_that_are_written_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(answer_index, "ROWS_A_FILE", 40)
    answer_index.write_answers(tmp_path, 100, ["O", "A", "B"])
    cache = AnswerCache(str(tmp_path), model=answer_index.MODEL, classes=("O", "A", "B"))
    keys = [answer_index.key_of(number) for number in range(0, 200, 2)]
    found = cache.find(keys)
    assert set(found) == set(keys[:50])
    assert all(sum(answer.probs) == pytest.approx(1) for answer in found.values())
