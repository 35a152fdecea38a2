import logging
import multiprocessing
import os
import random
import signal
import threading
import time

import pyarrow.parquet as pq
import pytest

from linkner_ray.errors import BackendError
from linkner_ray.llm.cache import answer_index
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.cache.files import CacheFolder, entries_table, format_entries
from tests.llm.caches import CLASSES, entry, key

WRITERS, ROUNDS = 4, 12


def opened(path):
    return AnswerCache(str(path), model="some-llm", classes=CLASSES)


def test_nothing_is_written_until_there_is_something_to_write(tmp_path):
    opened(tmp_path / "cache").add([])
    assert not (tmp_path / "cache").exists()


def test_another_node_is_heard_of_after_a_refresh(tmp_path, monkeypatch):
    ours = opened(tmp_path / "cache")
    monkeypatch.setattr(answer_index, "_node_folder", lambda: tmp_path)
    opened(tmp_path / "cache").add([entry(1)])
    assert ours.find([key(1)]) == {}
    ours.refresh()
    assert ours.find([key(1)])[key(1)].label == "PER"


def test_of_two_answers_the_one_written_first_counts_for_everybody(tmp_path):
    ours, theirs = opened(tmp_path), opened(tmp_path)
    theirs.add([entry(1, score=0.25)])
    ours.add([entry(1, score=0.75), entry(2)])
    for cache in (ours, theirs, opened(tmp_path)):
        assert cache.find([key(1)])[key(1)].probs == (0.0, 0.25, 0.75)
    assert ours.counts["cache_asked_elsewhere"] == 1
    # The second answer is not even on disk.
    assert sum(pq.read_table(p).num_rows for p in tmp_path.glob("*.parquet")) == 2


def test_of_two_answers_in_one_batch_the_first_counts(tmp_path):
    opened(tmp_path).add([entry(1, score=0.25), entry(1, score=0.75)])
    assert opened(tmp_path).find([key(1)])[key(1)].probs[1] == 0.25


def test_broken_and_foreign_files_are_named_and_never_trusted(tmp_path, caplog):
    opened(tmp_path).add([entry(1)])
    opened(tmp_path).add([entry(2)])
    (tmp_path / "readme.txt").write_text("what is this?")
    broken = tmp_path / "answers-0000000000.parquet"
    broken.write_bytes(broken.read_bytes()[:-30])
    with caplog.at_level(logging.WARNING):
        cache = opened(tmp_path)
    assert set(cache.find([key(1), key(2)])) == {key(2)}
    assert cache.counts["cache_files_broken"] == cache.counts["cache_files_foreign"] == 1
    assert f"{broken}: is not a whole Parquet file" in caplog.text
    assert "readme.txt: is no file of an answer cache; ignored" in caplog.text
    assert [path.name for path in (tmp_path / "_set_aside").iterdir()] == [broken.name]
    cache.add([entry(1)])
    assert set(opened(tmp_path).find([key(1), key(2)])) == {key(1), key(2)}


def test_a_file_that_another_node_wrote_under_a_broken_ones_name_stays(tmp_path, monkeypatch):
    nodes, path = [tmp_path / "ours", tmp_path / "theirs"], tmp_path / "cache"
    for folder in (*nodes, path):
        folder.mkdir()
    (path / "answers-0000000000.parquet").write_bytes(b"PAR1")
    read = CacheFolder.read

    def read_while_another_node_works(folder, name, columns=None):
        monkeypatch.setattr(CacheFolder, "read", read)
        try:
            yield from read(folder, name, columns)
        finally:
            monkeypatch.setattr(answer_index, "_node_folder", lambda: nodes[1])
            opened(path).add([entry(1)])  # which takes the number of the file it set aside

    monkeypatch.setattr(answer_index, "_node_folder", lambda: nodes[0])
    monkeypatch.setattr(CacheFolder, "read", read_while_another_node_works)
    opened(path)
    assert set(opened(path).find([key(1)])) == {key(1)}
    assert [file.name for file in path.glob("*.parquet")] == ["answers-0000000000.parquet"]


def test_a_broken_file_that_cannot_be_moved_is_ignored(tmp_path, caplog):
    (tmp_path / "_set_aside").write_text("a file is in the way")
    (tmp_path / "answers-0000000003.parquet").write_bytes(b"PAR1")
    with caplog.at_level(logging.WARNING):
        cache = opened(tmp_path)
        cache.add([entry(1)])
    assert caplog.text.count("answers-0000000003.parquet") == 1
    assert caplog.text.strip().endswith("ignored")
    assert (tmp_path / "answers-0000000004.parquet").exists()


def test_a_compaction_behind_its_back_does_not_disturb_a_cache(tmp_path):
    cache = opened(tmp_path)
    for number in range(3):
        cache.add([entry(number)])
    folder = CacheFolder(str(tmp_path))
    names = folder.list().names
    whole = entries_table([entry(number) for number in range(3)], CLASSES)
    folder.write_compacted(2, [whole])
    for name in names:
        (tmp_path / name).unlink()
    cache.add([entry(9)])
    assert folder.list().names == ["compacted-0000000002.parquet", "answers-0000000003.parquet"]
    assert len(opened(tmp_path)) == len(cache) == 4


def test_a_folder_that_cannot_be_written_stops_the_run_with_its_name(tmp_path):
    cache = opened(tmp_path / "cache")
    (tmp_path / "cache").write_text("a file is in the way")
    for _ in range(2):
        with pytest.raises(BackendError, match=r"answer cache .*cache cannot be written") as caught:
            cache.add([entry(1)])
        assert not caught.value.retryable
    assert cache.find([key(1)]) == {}


def test_threads_that_come_together_share_files_and_lose_nothing(tmp_path):
    cache = opened(tmp_path)
    start = threading.Barrier(8)

    def add(first):
        start.wait()
        for number in range(first, first + 20):
            cache.add([entry(number)])
            assert key(number) in cache.find([key(number)])

    threads = [threading.Thread(target=add, args=(100 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened(tmp_path)) == 160
    assert len(CacheFolder(str(tmp_path)).list().names) <= 160


def write_own_answers(path, writer, start, results):
    """A process that answers the same keys as all others, each in its own way."""
    cache = opened(path)
    order = list(range(ROUNDS))
    random.Random(writer).shuffle(order)
    for number in order:
        start.wait()
        cache.refresh()
        cache.add([entry(number, score=(writer + 1) / 8), entry(1000 * (writer + 1) + number)])
    results.put(told(cache))


def told(cache):
    found = cache.find([key(number) for number in range(ROUNDS)])
    return {name: answer.probs for name, answer in found.items()}


def test_many_processes_lose_nothing_and_are_told_the_same(tmp_path):
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(WRITERS), context.Queue()
    processes = [
        context.Process(target=write_own_answers, args=(tmp_path, writer, start, results))
        for writer in range(WRITERS)
    ]
    for process in processes:
        process.start()
    answers = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    # One answer to each key they all asked, and one to each key of their own.
    final = opened(tmp_path)
    assert len(final) == ROUNDS + WRITERS * ROUNDS
    assert final.counts["cache_files_broken"] == 0
    assert all(given == told(final) for given in answers)
    assert len(set(told(final).values())) > 1


def write_until_killed(path):
    cache = opened(path)
    number = 0
    while True:
        cache.add([entry(number + step) for step in range(200)])
        number += 200


def test_a_writer_killed_at_any_moment_leaves_no_half_file(tmp_path):
    context = multiprocessing.get_context("fork")
    for attempt in range(6):
        folder = tmp_path / str(attempt)
        process = context.Process(target=write_until_killed, args=(folder,))
        process.start()
        deadline = time.monotonic() + 60
        while len(list(folder.glob("*.parquet"))) < 2:
            assert time.monotonic() < deadline
        time.sleep(random.Random(attempt).random() * 0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        cache = opened(folder)
        files = list(folder.glob("*.parquet"))
        assert cache.counts["cache_files_broken"] == 0
        assert len(cache) == 200 * len(files) > 0


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("s3")
def test_on_s3_a_number_is_given_to_one_writer_and_broken_files_are_set_aside():
    import s3fs

    store = s3fs.S3FileSystem()
    store.mkdir("caches")
    url = "s3://caches/nights/cache"
    ours, theirs = opened(url), opened(url)
    theirs.add([entry(1, score=0.25)])
    assert CacheFolder(url).append(0, entries_table([entry(8)], CLASSES)) is None
    ours.add([entry(1, score=0.75), entry(2)])
    assert ours.find([key(1)])[key(1)].probs[1] == 0.25
    content = format_entries(entries_table([entry(5)], CLASSES))
    store.pipe_file("caches/nights/cache/answers-0000000002.parquet", content[:-1])
    again = opened(url)
    assert set(again.find([key(1), key(2), key(5)])) == {key(1), key(2)}
    assert store.exists("caches/nights/cache/_set_aside/answers-0000000002.parquet")
    assert not store.exists("caches/nights/cache/answers-0000000002.parquet")
