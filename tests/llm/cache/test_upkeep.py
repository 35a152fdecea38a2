import threading

import pyarrow as pa
import pytest

from linkner_ray.config import CacheConfig
from linkner_ray.errors import ConfigError
from linkner_ray.llm.cache import upkeep as cache_upkeep
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.cache.files import ENTRIES, CacheFolder, entries_table
from linkner_ray.llm.cache.upkeep import cache_notes, compact, statistics, survey
from linkner_ray.schemas import join_tables
from tests.llm.caches import CLASSES, entry, key, unsure


@pytest.fixture
def cache(tmp_path):
    """A folder of three files: 1 and 2; 2 again with another answer, 3; 3 again with the same."""
    folder = CacheFolder(str(tmp_path / "cache"))
    files = [
        [entry(1), entry(2, score=0.25)],
        [entry(2, score=0.75), unsure(3)],
        [unsure(3), entry(4, model="other-llm", day=9)],
    ]
    for number, entries in enumerate(files):
        folder.append(number, entries_table(entries, CLASSES))
    return tmp_path / "cache"


def answers_of(path):
    opened = AnswerCache(str(path), model="some-llm", classes=CLASSES)
    found = opened.find([key(number) for number in range(1, 5)])
    return {name: (answer.verdict, answer.label, answer.probs) for name, answer in found.items()}


def test_statistics_count_what_counts(cache):
    found = statistics(str(cache))
    assert found.survey.sizes == {path.name: path.stat().st_size for path in cache.iterdir()}
    assert [mask.tolist() for mask in found.survey.counts.values()] == [
        [True, True], [False, True], [False, True]
    ]  # fmt: skip
    assert found.survey.num_answers == 4
    assert found.survey.faults == []
    assert found.by_model == {
        ("other-llm", ""): {"label": 1},
        ("some-llm", ""): {"label": 2},
        ("some-llm", "r1"): {"unreadable": 1},
    }


@pytest.fixture
def big_cache(tmp_path):
    """20 files of 3,000 answers; and the bytes of all of them in memory."""
    folder = CacheFolder(str(tmp_path / "big"))
    rows = entries_table([entry(number) for number in range(3000)], CLASSES)
    for number in range(20):
        keys = pa.array([f"k1:{number << 64 | row:032x}" for row in range(3000)])
        folder.append(number, rows.set_column(0, ENTRIES.field("key"), keys))
    return folder, 20 * rows.nbytes


@pytest.mark.parametrize("action", [survey, statistics, compact])
def test_upkeep_holds_a_part_of_the_answers_in_memory(big_cache, monkeypatch, action):
    folder, all_bytes = big_cache
    monkeypatch.setattr(cache_upkeep, "_ROWS_A_GROUP", 3000)
    before, peak = pa.total_allocated_bytes(), 0
    read = CacheFolder.read

    def watched(*arguments):
        nonlocal peak
        for table in read(*arguments):
            peak = max(peak, pa.total_allocated_bytes() - before)
            yield table

    monkeypatch.setattr(CacheFolder, "read", watched)
    action(folder.url)
    assert 0 < peak < all_bytes / 4  # a file, its group and what is written of it, of 20
    if action is compact:
        [name] = folder.list().names
        assert sum(table.num_rows for table in read(folder, name)) == 60_000


class OneRow:
    """A table of one row, which says how often somebody asked for their number."""

    looks = 0

    @property
    def num_rows(self):
        OneRow.looks += 1
        return 1


def test_rows_of_small_files_are_joined_and_each_is_counted_once(monkeypatch):
    """Each file was counted again with every further one: 130,000 took minutes."""
    monkeypatch.setattr(pa, "concat_tables", list)
    joined = list(join_tables([OneRow() for _ in range(7)], 3))
    assert [len(rows) for rows in joined] == [3, 3, 1]
    assert OneRow.looks == 7


def test_a_file_replaced_between_two_looks_makes_compaction_begin_again(cache, monkeypatch):
    survey_once, folder = cache_upkeep._survey, CacheFolder(str(cache))
    other = entries_table([entry(7), entry(8)], CLASSES)

    def survey_then_replace(place):
        found = survey_once(place)
        if (cache / "answers-0000000002.parquet").exists():
            (cache / "answers-0000000002.parquet").unlink()
            folder.write_compacted(1, [other])
        return found

    monkeypatch.setattr(cache_upkeep, "_survey", survey_then_replace)
    done = compact(str(cache))
    # 7 and 8 of the new file; 1 and 2; 3
    assert (done.files_before, done.kept) == (3, 5)


def test_a_survey_names_broken_and_foreign_files_and_changes_nothing(cache):
    broken = cache / "answers-0000000001.parquet"
    broken.write_bytes(broken.read_bytes() + b"x")
    (cache / "notes.txt").write_text("?")
    before = {path: path.read_bytes() for path in cache.iterdir()}
    found = survey(str(cache))
    assert [(fault.name, fault.is_broken) for fault in found.faults] == [
        ("notes.txt", False),
        (broken.name, True),
    ]
    assert str(broken) in found.faults[1].problem
    assert {path: path.read_bytes() for path in cache.iterdir()} == before


def test_compaction_leaves_one_file_that_answers_as_before(cache):
    before = answers_of(cache)
    done = compact(str(cache))
    assert (done.files_before, done.kept, done.dropped) == (3, 4, 0)
    assert [path.name for path in cache.iterdir()] == ["compacted-0000000002.parquet"]
    assert answers_of(cache) == before
    assert compact(str(cache)).files_before == 1
    assert answers_of(cache) == before


def test_a_compaction_cut_off_before_it_removed_anything_changes_no_answer(cache):
    before = answers_of(cache)
    names = CacheFolder(str(cache)).list().names
    contents = {name: (cache / name).read_bytes() for name in names}
    compact(str(cache))
    for name, content in contents.items():
        (cache / name).write_bytes(content)
    (cache / "answers-0000000000.parquet").unlink()  # the file with the answer that counts
    assert answers_of(cache) == before


def test_compaction_sets_broken_files_aside_and_leaves_foreign_ones(cache):
    broken = cache / "answers-0000000000.parquet"
    broken.write_bytes(b"PAR1")
    (cache / "notes.txt").write_text("?")
    assert len(compact(str(cache)).faults) == 2
    assert sorted(path.name for path in cache.iterdir()) == [
        "_set_aside", "compacted-0000000002.parquet", "notes.txt"
    ]  # fmt: skip
    assert [path.name for path in (cache / "_set_aside").iterdir()] == [broken.name]


def test_a_merged_file_under_the_name_of_a_broken_one_stays(cache):
    before = answers_of(cache)
    folder = CacheFolder(str(cache))
    # A compaction that was cut off before it removed anything, and whose file was damaged since.
    folder.write_compacted(2, [t for name in folder.list().names for t in folder.read(name)])
    merged = cache / "compacted-0000000002.parquet"
    merged.write_bytes(merged.read_bytes()[:-1] + b"x")
    assert [fault.name for fault in compact(str(cache)).faults] == [merged.name]
    assert folder.list().names == [merged.name]
    assert answers_of(cache) == before


def test_what_is_dropped_is_gone_and_the_numbers_go_on(cache):
    done = compact(str(cache), keep=lambda table: table.slice(0, 0))
    assert (done.kept, done.dropped) == (0, 4)
    assert answers_of(cache) == {}
    assert CacheFolder(str(cache)).list().next_number == 3


def test_writers_lose_nothing_while_others_compact(tmp_path):
    path = str(tmp_path / "cache")
    AnswerCache(path, model="some-llm", classes=CLASSES).add([entry(10_000)])
    ended = threading.Event()

    def compact_again_and_again():
        while not ended.is_set():
            compact(path)

    def write(first):
        cache = AnswerCache(path, model="some-llm", classes=CLASSES)
        for number in range(first, first + 30):
            cache.add([entry(number)])

    compactor = threading.Thread(target=compact_again_and_again)
    writers = [threading.Thread(target=write, args=(100 * n,)) for n in range(3)]
    for thread in (compactor, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    compactor.join()
    assert survey(path).faults == []
    assert len(AnswerCache(path, model="some-llm", classes=CLASSES)) == 91


def test_a_folder_without_a_cache_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere: there is no answer cache here"):
        survey(str(tmp_path / "nowhere"))


def test_many_files_are_said_with_what_merges_them(cache, monkeypatch):
    config = CacheConfig(path=str(cache))
    monkeypatch.setattr(cache_upkeep, "MANY_FILES", 3)
    assert cache_notes(config) == []
    monkeypatch.setattr(cache_upkeep, "MANY_FILES", 2)
    [note] = cache_notes(config)
    assert "has 3 files" in note
    assert f"`linkner cache compact {cache}`" in note


def test_files_that_are_not_trusted_are_said_in_a_sentence(cache):
    config = CacheConfig(path=str(cache))
    assert cache_notes(config) == cache_notes(CacheConfig()) == []
    (cache / "notes.txt").write_text("?")
    (cache / "answers-0000000000.parquet").write_bytes(b"")
    answers_of(cache)
    broken, foreign = cache_notes(config)
    assert "1 file broken, in _set_aside/: answers-0000000000.parquet" in broken
    assert "1 file not of an answer cache, ignored: notes.txt" in foreign


def test_answers_about_several_label_sets_are_merged_as_they_are(tmp_path):
    folder = CacheFolder(str(tmp_path))
    sets = [("O", "PER", "ORG"), ("O", "LOC", "PER"), ("O", "PER", "ORG")]
    for number, classes in enumerate(sets):
        folder.append(number, entries_table([entry(number, score=0.25)], classes))
    compact(str(tmp_path))
    for number, classes in enumerate(sets):
        cache = AnswerCache(str(tmp_path), model="some-llm", classes=classes)
        assert cache.find([key(number)])[key(number)].probs == (0.0, 0.25, 0.75)
        assert len(cache) == sets.count(classes)
    [rows] = [t.to_pylist() for name in folder.list().names for t in folder.read(name)]
    assert [tuple(prob["class"] for prob in row["probs"]) for row in rows] == sets
