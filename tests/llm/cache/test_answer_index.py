"""The node's index: exactly what the files say, whatever happened to it."""

import logging
import multiprocessing
import os
import random
import signal
import sqlite3
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkner_ray.llm.cache import answer_index
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.cache.answer_index import AnswerIndex
from linkner_ray.llm.cache.files import CacheFolder, entries_table, first_answers
from linkner_ray.llm.cache.upkeep import compact
from tests.llm.caches import CLASSES, entry, key, unsure


def opened(path):
    return AnswerCache(str(path), model="some-llm", classes=CLASSES)


def index_path(cache):
    return cache._index.path


def probs_of(cache, numbers):
    return {name: a.probs for name, a in cache.find([key(n) for n in numbers]).items()}


def read_files(path, numbers):
    """The first answers to keys, by reading all files."""
    folder = CacheFolder(str(path))
    tables = [folder.read(name) for name in folder.list().names]
    wanted = {key(number) for number in numbers}
    rows = first_answers(tables).to_pylist() if tables else []
    return {
        row["key"]: row["probs"] and tuple(p["prob"] for p in row["probs"])
        for row in rows
        if row["key"] in wanted and row["model"] == "some-llm"
    }


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
            index_path(cache).write_bytes(b"SQLite format 3\0" + b"?" * 5000)
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
    monkeypatch.setattr(CacheFolder, "read_parts", None)  # nobody reads
    assert set(opened(tmp_path).find([key(1), key(2), key(3)])) == {key(1), key(2)}


def test_each_model_and_list_of_classes_has_an_index_of_its_own(tmp_path):
    opened(tmp_path).add([entry(1)])
    other = AnswerCache(str(tmp_path), model="some-llm", classes=("O", "PER", "LOC"))
    assert other.find([key(1)]) == {}
    turned = AnswerCache(str(tmp_path), model="some-llm", classes=("O", "ORG", "PER"))
    assert turned.find([key(1)])[key(1)].probs == (0.0, 0.5, 0.5)


def test_a_changed_file_is_read_again(tmp_path):
    opened(tmp_path).add([entry(1, score=0.25)])
    [name] = CacheFolder(str(tmp_path)).list().names
    CacheFolder(str(tmp_path)).folder.remove(name)
    opened(tmp_path).add([entry(1, score=0.75)])
    assert probs_of(opened(tmp_path), [1]) == {key(1): (0.0, 0.75, 0.25)}


def damage_value(path):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE answers SET value = zeroblob(24)")
    connection.close()


def damage_mark(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id = 7")
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        damage_value,
        damage_mark,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no database" * 1000),
        lambda path: os.truncate(path, 5000),
        lambda path: path.unlink(),
    ],
    ids=["value", "mark", "empty", "foreign", "cut", "gone"],
)
def test_a_broken_index_is_made_anew(tmp_path, caplog, damage):
    cache = opened(tmp_path)
    cache.add([entry(number) for number in range(300)])
    cache._index._connection.close()  # so that all of it is in one file
    damage(index_path(cache))
    with caplog.at_level(logging.WARNING):
        again = opened(tmp_path)
        assert probs_of(again, range(300)) == read_files(tmp_path, range(300))
    assert len(again) == 300
    assert "cache_files_broken" not in again.counts


def test_an_index_of_another_version_is_made_anew(tmp_path, monkeypatch):
    opened(tmp_path).add([entry(1)])
    monkeypatch.setattr(answer_index, "VERSION", 2)
    assert len(opened(tmp_path)) == 1


def test_who_holds_an_index_that_was_replaced_takes_the_new_one(tmp_path):
    ours, theirs = opened(tmp_path), opened(tmp_path)
    ours.add([entry(1)])
    theirs._index.replace()
    theirs.add([entry(2)])
    ours.add([entry(3)])
    theirs.refresh()
    assert index_path(ours).stat().st_ino == ours._index._inode == theirs._index._inode
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
    os.utime(index_path(old).with_suffix(".lock"), (month_ago, month_ago))
    opened(tmp_path / "other")
    assert not index_path(old).exists()
    assert index_path(recent).exists()
    old.add([entry(1)])  # who still has it goes on
    assert len(old) == 1


def build_slowly(path):
    def slow(table):
        time.sleep(0.002)
        return table

    AnswerCache._of_model = lambda _, table: slow(table)
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
