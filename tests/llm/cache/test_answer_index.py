"""The node's index: exactly what the files say, whatever happened to it."""

import logging
import multiprocessing
import os
import random
import shutil
import signal
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkner_ray.errors import BackendError
from linkner_ray.llm.cache import answer_index
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.cache.answer_index import AnswerIndex
from linkner_ray.llm.cache.files import CacheFolder, entries_table
from linkner_ray.llm.cache.upkeep import compact
from tests.llm.caches import CLASSES, entry, key, unsure


def opened(path):
    return AnswerCache(str(path), model="some-llm", classes=CLASSES)


def segments(cache):
    """Paths of the segments on the disk, in order."""
    folder = cache._index._folder
    return sorted(folder.glob(f"{cache._index._name}-*.segment"))


def probs_of(cache, numbers):
    return {name: a.probs for name, a in cache.find([key(n) for n in numbers]).items()}


def read_files(path, numbers):
    """The first answers to keys, by reading all files."""
    folder = CacheFolder(str(path))
    wanted = {key(number) for number in numbers}
    first = {}
    for name in folder.list().names:
        for row in pa.concat_tables([entries_table([], CLASSES), *folder.read(name)]).to_pylist():
            if row["model"] == "some-llm" and row["key"] in wanted:
                probs = row["probs"] and tuple(p["prob"] for p in row["probs"])
                first.setdefault(row["key"], probs)
    return first


@settings(deadline=None, max_examples=25)
@given(
    steps=st.lists(
        st.one_of(
            st.lists(st.integers(0, 9), min_size=1, max_size=5),
            st.sampled_from(["compact", "prune", "reopen", "break"]),
        ),
        max_size=8,
    ),
    seed=st.integers(0, 1000),
)
def test_the_index_gives_what_reading_the_files_gives(tmp_path_factory, steps, seed):
    path = tmp_path_factory.mktemp("parity")
    scores = random.Random(seed)
    cache = opened(path)
    for step in steps:
        if isinstance(step, list):
            # One half by this process, the other by one that has read nothing.
            entries = [entry(number, score=scores.random()) for number in step]
            cache.add(entries[::2])
            folder = CacheFolder(str(path))
            folder.append(folder.list().next_number, entries_table(entries[1::2], CLASSES))
        elif step == "reopen":
            cache = opened(path)
        elif step == "break":
            for segment in segments(cache):
                segment.write_bytes(segment.read_bytes()[:-1])
        elif CacheFolder(str(path)).list().names:
            keep = (lambda t: t.slice(1)) if step == "prune" else (lambda t: t)
            compact(str(path), keep=keep)
        cache.refresh()
        expected = read_files(path, range(10))
        assert probs_of(cache, range(10)) == expected
        assert len(cache) == len(expected)
    assert probs_of(opened(path), range(10)) == read_files(path, range(10))


def test_processes_of_a_node_read_a_file_once(tmp_path, monkeypatch):
    opened(tmp_path).add([entry(1), unsure(2)])
    monkeypatch.setattr(CacheFolder, "read", None)  # nobody reads
    assert set(opened(tmp_path).find([key(1), key(2), key(3)])) == {key(1), key(2)}


def test_a_changed_file_is_read_again(tmp_path):
    opened(tmp_path).add([entry(1, score=0.25)])
    [name] = CacheFolder(str(tmp_path)).list().names
    CacheFolder(str(tmp_path)).folder.remove(name)
    opened(tmp_path).add([entry(1, score=0.75)])
    assert probs_of(opened(tmp_path), [1]) == {key(1): (0.0, 0.75, 0.25)}


def damage_rows(path):
    content = path.read_bytes()
    path.write_bytes(content[:-7200] + bytes(7200))  # 300 answers of 24 bytes


@pytest.mark.parametrize(
    "damage",
    [
        damage_rows,
        lambda path: path.write_bytes(path.read_bytes()[:48] + b"x" * (path.stat().st_size - 48)),
        lambda path: path.write_bytes(b""),
        lambda path: os.truncate(path, 20),
        lambda path: os.truncate(path, 5000),
        lambda path: path.unlink(),
    ],
    ids=["rows", "notes", "empty", "head", "cut", "gone"],
)
def test_a_broken_index_is_made_anew(tmp_path, caplog, damage):
    opened(tmp_path).add([entry(number) for number in range(300)])
    [segment] = segments(opened(tmp_path))
    damage(segment)
    with caplog.at_level(logging.WARNING):
        again = opened(tmp_path)
        assert probs_of(again, range(300)) == read_files(tmp_path, range(300))
    assert len(again) == 300
    assert "cache_files_broken" not in again.counts


@pytest.mark.parametrize("name", ["{}-00000000-00000000.segment", "{}-new.segment"])
def test_a_foreign_file_of_an_indexs_name_is_refused_and_stays(tmp_path, name):
    url = CacheFolder(str(tmp_path)).address
    index = AnswerIndex(url, model="some-llm", classes=CLASSES)
    foreign = index._folder / name.format(index._name)
    foreign.write_bytes(b"years of work")
    with pytest.raises(
        (OSError, BackendError), match="this program did not write it; move it away"
    ):
        opened(tmp_path).add([entry(1)])
    assert foreign.read_bytes() == b"years of work"
    month_ago = time.time() - 31 * 86_400
    os.utime(index._lock, (month_ago, month_ago))
    opened(tmp_path / "other")
    assert foreign.read_bytes() == b"years of work"


@pytest.mark.timeout(60)  # it was looked for again and again
def test_a_link_to_nowhere_under_a_segments_name_is_no_segment(tmp_path):
    cache = opened(tmp_path)
    link = cache._index._folder / f"{cache._index._name}-00000000-00000009.segment"
    link.symlink_to("gone")
    cache.add([entry(1)])
    assert len(opened(tmp_path)) == 1
    assert link.is_symlink()


def test_a_node_whose_temporary_files_were_cleaned_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(answer_index, "gettempdir", lambda: str(tmp_path))
    cache = opened(tmp_path / "cache")
    cache.add([entry(1)])
    shutil.rmtree(cache._index._folder)
    cache.add([entry(2)])
    assert len(cache) == len(opened(tmp_path / "cache")) == 2


def test_a_lock_of_that_name_is_not_emptied(tmp_path):
    cache = opened(tmp_path)
    cache._index._lock.write_bytes(b"years of work")
    cache.add([entry(1)])
    assert cache._index._lock.read_bytes() == b"years of work"


def test_there_are_never_many_segments(tmp_path):
    cache = opened(tmp_path)
    for number in range(64):
        cache.add([entry(number)])
        # Each is larger than the next, so n answers need at most log2(n) + 1 segments.
        assert len(segments(cache)) <= number.bit_length() + 1
    assert probs_of(opened(tmp_path), range(64)) == read_files(tmp_path, range(64))


def test_a_segment_over_the_limit_takes_no_other_in(tmp_path, monkeypatch):
    monkeypatch.setattr(answer_index, "MAX_SEGMENT_BYTES", 10 * (16 + 24))
    cache = opened(tmp_path)
    for number in range(0, 40, 5):
        cache.add([entry(number + step) for step in range(5)])
    assert [len(s) for s in cache._index._segments.values()] == [10] * 4


def test_who_dies_between_writing_and_removing_leaves_the_same_answers(tmp_path):
    cache = opened(tmp_path)
    cache.add([entry(1), entry(2)])
    [part] = segments(cache)
    content = part.read_bytes()
    cache.add([entry(3), entry(4)])
    part.write_bytes(content)
    assert len(segments(cache)) == 2
    assert len(opened(tmp_path)) == 4
    cache.add([entry(number) for number in range(5, 9)])
    assert len(segments(cache)) == 1
    assert len(opened(tmp_path)) == 8


def test_who_holds_an_index_that_was_replaced_takes_the_new_one(tmp_path):
    ours, theirs = opened(tmp_path), opened(tmp_path)
    ours.add([entry(1)])
    theirs.refresh()
    [segment] = segments(theirs)
    theirs._index.replace(segment)
    theirs.add([entry(2)])
    ours._index.replace(segment)  # was replaced: nothing is removed
    assert len(ours) == 2
    ours.add([entry(3)])
    theirs.refresh()
    assert len(ours) == len(theirs) == 3


def test_a_folder_that_is_another_users_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(answer_index, "gettempdir", lambda: str(tmp_path))
    AnswerIndex("x", model="m", classes=CLASSES)
    owner = os.getuid()
    (tmp_path / f"linkner-answers-{owner + 1}").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(PermissionError, match="belongs to another user; set TMPDIR"):
        AnswerIndex("x", model="m", classes=CLASSES)


def test_an_index_that_was_not_used_for_a_month_is_removed(tmp_path):
    old, recent = opened(tmp_path / "old"), opened(tmp_path / "recent")
    month_ago = time.time() - 31 * 86_400
    for cache in (old, recent):
        cache.add([entry(0)])
    os.utime(old._index._lock, (month_ago, month_ago))
    opened(tmp_path / "other")
    assert segments(old) == []
    assert len(segments(recent)) == 1
    old.add([entry(1)])  # who still has it goes on
    assert len(old) == 2


def build_slowly(path):
    def slow(table):
        time.sleep(0.002)
        return table

    pack = AnswerIndex.pack
    AnswerIndex.pack = lambda index, tables: pack(index, map(slow, tables))
    opened(path)


def test_a_process_killed_while_it_fills_the_index_leaves_one_that_can_be_gone_on_with(tmp_path):
    folder = CacheFolder(str(tmp_path))
    for number in range(60):
        entries = [entry(5 * number + step) for step in range(5)]
        folder.append(number, entries_table(entries, CLASSES))
    context = multiprocessing.get_context("fork")
    for attempt in range(4):
        process = context.Process(target=build_slowly, args=(tmp_path,))
        process.start()
        time.sleep(0.03 + random.Random(attempt).random() * 0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    cache = opened(tmp_path)
    assert probs_of(cache, range(300)) == read_files(tmp_path, range(300))
    assert cache.counts["cache_index_broken"] == 0
