"""What is done about bad input the morning after, from the command line."""

import gzip
import json

import pyarrow.dataset as ds
import pytest

from linkner_ray.cli import main
from linkner_ray.errors import ConfigError, ContractError
from linkner_ray.extract.job import extract
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.extract.report import write_run_report
from tests.crawl import (
    config_of,
    files_of,
    overrides,
    text_of,
    wet_record,
    write_parquet,
)
from tests.local_pipeline import run_here

pytestmark = pytest.mark.usefixtures("without_ray")


def run(crawl, output, checkpoint, *more):
    return extract(plan_extraction(config_of(*overrides(crawl, output, checkpoint, *more))))


def write_good(folder):
    """Three shards of 7, 6 and 3 documents."""
    folder.mkdir()
    write_parquet(folder / "a.parquet", [text_of(n) for n in range(7)])
    lines = [json.dumps({"doc_id": f"j{n}", "text": text_of(20 + n)}) for n in range(6)]
    (folder / "b.jsonl").write_text("\n".join(lines) + "\n")
    records = [wet_record(f"w{n}", text_of(60 + n)) for n in range(3)]
    (folder / "c.wet").write_bytes(b"".join(records))


def damage(folder):
    """A footer cut off, and a line that would change the colours of a terminal."""
    whole = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(whole[:-30])
    lines = (folder / "b.jsonl").read_text().splitlines()
    lines[5] = '{"text": "\x1b[31m red'
    (folder / "b.jsonl").write_text("\n".join(lines) + "\n")


def failures(capsys, *arguments):
    """Exit code and standard output of `linkner failures ...`."""
    capsys.readouterr()
    code = main(["failures", *map(str, arguments)])
    return code, capsys.readouterr().out


@pytest.fixture
def failed(tmp_path, checkpoint):
    """Damaged shards, and a run over them that ended over its limits."""
    crawl, output = tmp_path / "crawl", tmp_path / "out"
    write_good(crawl)
    damage(crawl)
    assert run(crawl, output, checkpoint).problems
    return crawl, output


def test_after_a_repair_and_a_requeue_the_output_is_as_if_all_had_been_good(
    failed, tmp_path, checkpoint, capsys
):
    crawl, output = failed
    untouched = {p.name for p in (output / "entities").iterdir()}
    (crawl / "c.wet").rename(tmp_path / "c.wet")
    for name in ("a.parquet", "b.jsonl"):
        (crawl / name).unlink()
    crawl.rmdir()
    write_good(crawl)
    (tmp_path / "c.wet").replace(crawl / "c.wet")
    with pytest.raises(ConfigError, match="linkner failures requeue"):
        run(crawl, output, checkpoint)
    code, out = failures(capsys, "requeue", output)
    assert code == 0
    assert "a.parquet: changed; 1 unreadable_file; 1 unit to do again" in out
    assert "b.jsonl: changed; 1 bad_json; 2 units to do again" in out
    assert "c.wet" not in out
    repaired = run(crawl, output, checkpoint)
    assert not repaired.problems
    fresh = run(crawl, tmp_path / "fresh", checkpoint)
    assert repaired.totals == fresh.totals
    assert repaired.units_written == fresh.units_written - 1  # c.wet was not done again
    assert untouched & {p.name for p in (output / "entities").iterdir()}
    found, expected = files_of(output), files_of(tmp_path / "fresh")
    assert found.pop("_run.json") != expected.pop("_run.json")  # which says where it is
    assert found == expected
    assert len(ds.dataset(output / "entities").to_table()) == 16


def test_units_of_a_shard_that_stayed_the_same_are_done_again_to_the_same_bytes(
    failed, checkpoint, capsys
):
    crawl, output = failed
    before = files_of(output)
    code, out = failures(capsys, "requeue", output, "--reason", "bad_json", "--dry-run")
    assert (code, files_of(output) == before) == (0, True)
    assert "b.jsonl: unchanged; 1 bad_json; 1 unit to do again" in out
    assert failures(capsys, "requeue", output, "--reason", "bad_json")[0] == 0
    assert len(files_of(output)) == len(before) - 6  # three marks, three files of one unit
    assert run(crawl, output, checkpoint).units_written == 1
    assert files_of(output) == before


def test_a_shard_that_is_gone_is_dropped_only_on_demand(failed, checkpoint, capsys):
    crawl, output = failed
    (crawl / "a.parquet").unlink()
    before = files_of(output)
    _, out = failures(capsys, "requeue", output, "--file", "*/a.parquet")
    assert "a.parquet: gone; 1 unreadable_file; left as it is" in out
    assert files_of(output) == before
    assert failures(capsys, "requeue", output, "--file", "*/a.parquet", "--drop-gone")[0] == 0
    totals = run(crawl, output, checkpoint).totals
    assert (totals["files_quarantined"], totals["documents_quarantined"]) == (0, 1)
    assert not [name for name in files_of(output) if "_quarantine" in name][1:]


def test_files_left_by_a_requeue_that_was_cut_off_are_gone_after_the_next_run(
    failed, checkpoint, capsys
):
    crawl, output = failed
    before = files_of(output)
    orphan = output / "_quarantine" / "part-0123456789abcdef-0000000000.parquet"
    orphan.write_bytes(next((output / "_quarantine").iterdir()).read_bytes())
    assert failures(capsys, "list", output)[1].startswith("1 document and 1 file ")
    failures(capsys, "requeue", output, "--reason", "bad_json")
    run(crawl, output, checkpoint)
    assert files_of(output) == before


def test_with_a_budget_in_calls_a_repaired_shard_is_refused_before_anything_is_removed(
    tmp_path, checkpoint, capsys
):
    crawl, output = tmp_path / "crawl", tmp_path / "out"
    write_good(crawl)
    damage(crawl)
    run(crawl, output, checkpoint, "routing.budget=5 calls")
    with (crawl / "b.jsonl").open("a") as stream:
        stream.write('{"text": "more"}\n')
    before = files_of(output)
    code, _ = failures(capsys, "requeue", output)
    assert code == 2
    assert files_of(output) == before


def test_failures_are_listed_by_reason_and_file_without_reaching_the_terminal(failed, capsys):
    _, output = failed
    code, out = failures(capsys, "list", output)
    assert code == 0
    assert out.startswith("1 document and 1 file in quarantine\n")
    assert "1 unreadable_file" in out
    assert "PAR1" in out
    assert "record 5, byte " in out
    assert "\x1b" not in out
    _, out = failures(capsys, "list", output, "--reason", "bad_json", "--json", "-")
    [row] = json.loads(out)["failures"]
    assert row["raw"] == r'{"text": "\x1b[31m red\n'
    assert out.isascii()
    assert "\x1b" not in out
    _, out = failures(capsys, "list", output, "--json", "-")
    assert len(json.loads(out)["failures"]) == 2
    _, out = failures(capsys, "list", output, "--json", "-", "--limit", 1)
    assert len(json.loads(out)["failures"]) == 1
    _, out = failures(capsys, "list", output, "--limit", 1)
    assert "... and 1 more; see --limit" in out
    assert failures(capsys, "list", output / "entities")[0] == 2


def test_the_report_adds_up_the_records_of_all_shards(tmp_path, checkpoint):
    crawl, output = tmp_path / "crawl", tmp_path / "out"
    write_good(crawl)
    damage(crawl)
    with (crawl / "c.wet").open("ab") as stream:
        stream.write(b"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 0\r\n\r\n\r\n\r\n")
    plan = plan_extraction(config_of(*overrides(crawl, output, checkpoint)))
    result = extract(plan)
    write_run_report(plan, result)
    page = (output / "report.md").read_text()
    # b: 6 lines of which one is bad; c: 3 pages and a warcinfo; a: a file without a footer
    for line in (
        "records of all shards | 11",
        "- documents | 9",
        "- no documents: warcinfo | 1",
        "- files not read to their end, one each | 1",
        "bad_json | 1",
        "unreadable_file | 1",
    ):
        assert f"| {line} |" in page
    assert "`linkner failures list`" in page
    units = json.loads((output / "report.json").read_text())["units"]
    assert all(unit["seconds"]["ReadDocuments"] >= 0 for unit in units["slowest"])


def test_a_shard_that_was_not_read_to_its_end_fails_the_run(tmp_path, checkpoint, monkeypatch):
    crawl, output = tmp_path / "crawl", tmp_path / "out"
    write_good(crawl)

    def loses_a_unit(*arguments, **named):
        yield from list(run_here(*arguments, **named))[:-1]

    monkeypatch.setattr("linkner_ray.extract.job.run_extraction", loses_a_unit)
    with pytest.raises(ContractError, match="not read to the end: 1 shard, such as"):
        run(crawl, output, checkpoint)
    assert not (output / "_SUCCESS").exists()


def test_a_file_that_breaks_off_counts_as_one_that_was_not_read_to_its_end(tmp_path, checkpoint):
    crawl, output = tmp_path / "crawl", tmp_path / "out"
    crawl.mkdir()
    lines = [json.dumps({"doc_id": f"j{n}", "text": text_of(n)}) for n in range(400)]
    packed = gzip.compress("\n".join(lines).encode(), mtime=0)
    (crawl / "b.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    result = run(crawl, output, checkpoint, "input.unit_documents=100")
    assert result.totals["files_quarantined"] == 1
    assert 50 < result.totals["documents_read"] < 400
    [problem] = result.problems  # no share of the documents tells how many are missing
    assert "1 file could not be read to the end" in problem
