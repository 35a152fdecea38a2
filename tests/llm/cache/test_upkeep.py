import threading

import pytest

from linkner_ray.config import LedgerConfig
from linkner_ray.errors import ConfigError
from linkner_ray.llm.cache import upkeep as ledger_upkeep
from linkner_ray.llm.cache.answer_cache import Ledger
from linkner_ray.llm.cache.files import LedgerFolder, entries_table
from linkner_ray.llm.cache.upkeep import compact, count_by_model, ledger_notes, survey
from tests.llm.caches import CLASSES, entry, key, unsure


@pytest.fixture
def ledger(tmp_path):
    """A folder of three files: 1 and 2; 2 again with another answer, 3; 3 again with the same."""
    folder = LedgerFolder(str(tmp_path / "ledger"))
    files = [
        [entry(1), entry(2, score=0.25)],
        [entry(2, score=0.75), unsure(3)],
        [unsure(3), entry(4, model="other-llm", day=9)],
    ]
    for number, entries in enumerate(files):
        folder.append(number, entries_table(entries, CLASSES))
    return tmp_path / "ledger"


def answers_of(path):
    opened = Ledger(str(path), model="some-llm", classes=CLASSES)
    found = opened.find([key(number) for number in range(1, 5)])
    return {name: (answer.verdict, answer.label, answer.probs) for name, answer in found.items()}


def test_a_survey_counts_what_counts(ledger):
    found = survey(str(ledger))
    assert found.sizes == {path.name: path.stat().st_size for path in ledger.iterdir()}
    assert found.answers()["key"].to_pylist() == [key(n) for n in (1, 2, 3, 4)]
    assert found.count_conflicts() == 1
    assert found.faults == []
    assert count_by_model(found.answers()) == {
        ("other-llm", ""): {"label": 1},
        ("some-llm", ""): {"label": 2},
        ("some-llm", "r1"): {"unreadable": 1},
    }


def test_a_survey_names_broken_and_foreign_files_and_changes_nothing(ledger):
    broken = ledger / "answers-0000000001.parquet"
    broken.write_bytes(broken.read_bytes() + b"x")
    (ledger / "notes.txt").write_text("?")
    before = {path: path.read_bytes() for path in ledger.iterdir()}
    found = survey(str(ledger))
    assert [(fault.name, fault.is_broken) for fault in found.faults] == [
        ("notes.txt", False),
        (broken.name, True),
    ]
    assert str(broken) in found.faults[1].problem
    assert {path: path.read_bytes() for path in ledger.iterdir()} == before


def test_compaction_leaves_one_file_that_answers_as_before(ledger):
    before = answers_of(ledger)
    done = compact(str(ledger))
    assert (done.files_before, done.kept, done.dropped) == (3, 4, 0)
    assert [path.name for path in ledger.iterdir()] == ["compacted-0000000002.parquet"]
    assert answers_of(ledger) == before
    assert compact(str(ledger)).files_before == 1
    assert answers_of(ledger) == before


def test_a_compaction_cut_off_before_it_removed_anything_changes_no_answer(ledger):
    before = answers_of(ledger)
    LedgerFolder(str(ledger)).write_compacted(2, survey(str(ledger)).answers())
    (ledger / "answers-0000000000.parquet").unlink()  # the file with the answer that counts
    assert answers_of(ledger) == before


def test_compaction_sets_broken_files_aside_and_leaves_foreign_ones(ledger):
    broken = ledger / "answers-0000000000.parquet"
    broken.write_bytes(b"PAR1")
    (ledger / "notes.txt").write_text("?")
    assert len(compact(str(ledger)).faults) == 2
    assert sorted(path.name for path in ledger.iterdir()) == [
        "_set_aside", "compacted-0000000002.parquet", "notes.txt"
    ]  # fmt: skip
    assert [path.name for path in (ledger / "_set_aside").iterdir()] == [broken.name]


def test_what_is_dropped_is_gone_and_the_numbers_go_on(ledger):
    done = compact(str(ledger), keep=lambda table: table.slice(0, 0))
    assert (done.kept, done.dropped) == (0, 4)
    assert answers_of(ledger) == {}
    assert LedgerFolder(str(ledger)).list().next_number == 3


def test_writers_lose_nothing_while_others_compact(tmp_path):
    path = str(tmp_path / "ledger")
    Ledger(path, model="some-llm", classes=CLASSES).add([entry(10_000)])
    ended = threading.Event()

    def compact_again_and_again():
        while not ended.is_set():
            compact(path)

    def write(first):
        ledger = Ledger(path, model="some-llm", classes=CLASSES)
        for number in range(first, first + 30):
            ledger.add([entry(number)])

    compactor = threading.Thread(target=compact_again_and_again)
    writers = [threading.Thread(target=write, args=(100 * n,)) for n in range(3)]
    for thread in (compactor, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    compactor.join()
    assert survey(path).faults == []
    assert len(Ledger(path, model="some-llm", classes=CLASSES)) == 91


def test_a_folder_without_a_ledger_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere: there is no ledger here"):
        survey(str(tmp_path / "nowhere"))


def test_many_files_are_said_with_what_merges_them(ledger, monkeypatch):
    config = LedgerConfig(path=str(ledger))
    monkeypatch.setattr(ledger_upkeep, "MANY_FILES", 3)
    assert ledger_notes(config) == []
    monkeypatch.setattr(ledger_upkeep, "MANY_FILES", 2)
    [note] = ledger_notes(config)
    assert "has 3 files" in note
    assert f"`linkner ledger compact {ledger}`" in note


def test_files_that_are_not_trusted_are_said_in_a_sentence(ledger):
    config = LedgerConfig(path=str(ledger))
    assert ledger_notes(config) == ledger_notes(LedgerConfig()) == []
    (ledger / "notes.txt").write_text("?")
    (ledger / "answers-0000000000.parquet").write_bytes(b"")
    answers_of(ledger)
    broken, foreign = ledger_notes(config)
    assert "1 files are broken and lie in _set_aside/: answers-0000000000.parquet" in broken
    assert "1 files are no files of a ledger and were ignored: notes.txt" in foreign
