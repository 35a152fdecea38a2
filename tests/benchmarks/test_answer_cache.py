import json
from dataclasses import replace

import pytest

from benchmarks import answer_cache, answer_cache_stores
from benchmarks.answer_cache_stores import STORES, SqliteStore, key_of, make_entries
from linkner_ray.errors import ContractError


def test_both_stores_are_measured_and_compared(tmp_path, capsys):
    numbers = answer_cache.main(
        ["--entries", "900", "--batch", "100", "--rounds", "1", "--json", str(tmp_path / "n.json")]
    )
    assert json.loads((tmp_path / "n.json").read_text()) == numbers
    for key in answer_cache.MEASURES:
        ours, theirs = (numbers[f"{key}_{name}_900"] for name in STORES)
        assert ours >= 0
        assert theirs >= 0
        ratio = numbers[f"ratio_cache_to_sqlite_{key}_900"]
        assert ratio is None or ratio == pytest.approx(ours / theirs)
    # 900 answers, each with a digest of 16 bytes and five probabilities of 4
    assert numbers["disk_bytes_per_entry_cache_900"] > 36
    assert "| two writers, added/s |" in capsys.readouterr().out


class Forgetful(SqliteStore):
    def find(self, keys):
        return dict(list(super().find(keys).items())[1:])


class LastOneCounts(SqliteStore):
    def add(self, entries):
        keys = [(entry.answer.key,) for entry in entries]
        with self._connection:
            self._connection.executemany("DELETE FROM answers WHERE key = ?", keys)
        super().add(entries)


@pytest.mark.parametrize("wrong", [Forgetful, LastOneCounts])
def test_stores_that_disagree_are_not_timed(tmp_path, monkeypatch, wrong):
    monkeypatch.setitem(STORES, "sqlite", wrong)
    with pytest.raises(ContractError, match="cache and sqlite differ"):
        answer_cache.check_parity(tmp_path)


def test_a_store_that_lost_answers_gives_no_rate(tmp_path):
    store = SqliteStore(tmp_path)
    store.add(make_entries(range(10)))
    with pytest.raises(ContractError, match="found 10 of 100"):
        answer_cache._found_per_s(store, 100)
    store.close()


def test_a_table_of_sqlite_gives_back_what_it_was_given(tmp_path):
    made = make_entries(range(700))
    store = SqliteStore(tmp_path)
    store.add(made)
    told = [replace(entry.answer, source="cache", latency_s=None) for entry in made]
    found = store.find([key_of(number) for number in range(1000)])
    store.close()
    assert found == {answer.key: answer for answer in told}


def test_keys_are_all_different_and_the_same_each_time():
    assert len({key_of(number) for number in range(10_000)}) == 10_000
    first, again = (answer_cache_stores.make_entries(range(5, 9)) for _ in range(2))
    assert first == again
    assert first != answer_cache_stores.make_entries(range(5, 9), writer="second")
