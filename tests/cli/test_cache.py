import json

import pytest

from linkner_ray.cli import main
from linkner_ray.errors import counted
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.cache.files import CacheFolder, entries_table
from tests.llm.caches import CLASSES, entry, unsure


@pytest.fixture
def cache(tmp_path):
    folder = CacheFolder(str(tmp_path / "cache"))
    folder.append(0, entries_table([entry(1), entry(2, score=0.25)], CLASSES))
    folder.append(1, entries_table([entry(2, score=0.75), unsure(3)], CLASSES))
    folder.append(2, entries_table([entry(4, model="other", day=9), entry(5, day=31)], CLASSES))
    return tmp_path / "cache"


def run(capsys, *arguments):
    """Exit code, standard output and standard error of `linkner cache ...`."""
    code = main(["cache", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_stats_as_json(cache, capsys):
    tree = json.loads(run(capsys, "stats", cache, "--json", "-")[1])
    assert (tree["num_answers"], tree["num_files"], tree["faults"]) == (5, 3, [])
    assert tree["asked"] == ["2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"]
    assert tree["models"][2] == {"model": "some-llm", "revision": "r1", "unreadable": 1}


def test_stats_say_what_is_there(cache, capsys):
    code, out, _ = run(capsys, "stats", cache)
    assert code == 0
    size = sum(path.stat().st_size for path in cache.iterdir())
    assert out.splitlines() == [
        "answers       5",
        f"files         3, {size:,} bytes",
        "asked         2026-01-01 00:00:00 to 2026-02-01 00:00:00 UTC",
        "mean latency  0.250 s, waiting for its turn included",
        "",
        "other, revision unknown",
        "  label       1",
        "  non entity  0",
        "  unreadable  0",
        "",
        "some-llm, revision unknown",
        "  label       3",
        "  non entity  0",
        "  unreadable  0",
        "",
        "some-llm, revision r1",
        "  label       0",
        "  non entity  0",
        "  unreadable  1",
    ]


def test_verify_exits_3_and_names_what_is_not_trusted(cache, capsys):
    assert run(capsys, "verify", cache)[:2] == (0, "3 good files, 5 answers\n")
    broken = cache / "answers-0000000001.parquet"
    broken.write_bytes(broken.read_bytes()[:100])
    (cache / "notes.txt").write_text("?")
    code, out, err = run(capsys, "verify", cache)
    assert code == 3
    assert "2 good files, 4 answers" in out
    assert "ignored: notes.txt: is no file of an answer cache" in out
    assert f"broken: {broken.name}: {broken}: is not a whole Parquet file" in out
    assert "not trusted: 2 files, whose answers" in err
    code, out, _ = run(capsys, "verify", cache, "--json", "-")
    assert code == 3
    assert {fault["name"] for fault in json.loads(out)["faults"]} == {"notes.txt", broken.name}
    assert "not trusted   2 files" in run(capsys, "stats", cache)[1]
    code, out, _ = run(capsys, "compact", cache)
    assert code == 0
    assert f"{broken.name}: set aside" in out
    assert "notes.txt: left where it is" in out
    (cache / "notes.txt").unlink()
    assert run(capsys, "verify", cache)[:2] == (0, "1 good file, 4 answers\n")


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--model", "some-llm"], [4]),
        (["--before", "2026-02-01"], [5]),
        (["--before", "2026-02-01T00:00:01"], []),
        (["--model", "some-llm", "--before", "2026-01-15"], [4, 5]),
        (["--model", "nobody"], [1, 2, 3, 4, 5]),
    ],
)
def test_prune_drops_what_all_conditions_name(cache, capsys, options, kept):
    code, out, _ = run(capsys, "prune", cache, *options)
    assert code == 0
    assert out == f"{counted(len(kept), 'answer')} kept, {5 - len(kept)} dropped, 3 files merged\n"
    loaded = [len(AnswerCache(str(cache), model=m, classes=CLASSES)) for m in ("some-llm", "other")]
    assert loaded == [len(set(kept) - {4}), 4 in kept]


def test_prune_without_a_condition_drops_nothing(cache, capsys):
    code, _, err = run(capsys, "prune", cache)
    assert code == 2
    assert "--model, --before or both" in err
    assert len(list(cache.iterdir())) == 3


def test_compact_merges_and_says_so(cache, capsys):
    assert run(capsys, "compact", cache)[:2] == (0, "5 answers kept, 0 dropped, 3 files merged\n")
    assert [path.name for path in cache.iterdir()] == ["compacted-0000000002.parquet"]


@pytest.mark.parametrize("command", ["stats", "verify", "compact"])
def test_a_folder_without_a_cache_exits_2_with_its_name(tmp_path, capsys, command):
    code, _, err = run(capsys, command, tmp_path / "nowhere")
    assert code == 2
    assert "nowhere: there is no answer cache here" in err
