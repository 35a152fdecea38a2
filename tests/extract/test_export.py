"""`linkner export`, and the output as it stands: other programs read what a run wrote."""

import csv
import json
import re

import duckdb
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
import yaml

from linkner_ray.cli import main
from linkner_ray.extract import export as export_module
from linkner_ray.extract.export import FLAT
from linkner_ray.extract.report import write_run_report
from tests.crawl import text_of, write_checkpoint, write_parquet
from tests.in_process import extract_in_process, plan_of


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """A finished run over two shards, with a report."""
    folder = tmp_path_factory.mktemp("export")
    crawl = folder / "crawl"
    crawl.mkdir()
    write_parquet(crawl / "a.parquet", [text_of(number) for number in range(6)])
    write_parquet(crawl / "b.parquet", [*(text_of(number) for number in range(6, 9)), ""], first=6)
    keep = ["output.keep_text=true", "output.keep_candidates=true"]
    with pytest.MonkeyPatch.context() as patch:
        plan = plan_of(crawl, folder / "out", write_checkpoint(folder / "checkpoint"), *keep)
        write_run_report(plan, extract_in_process(patch, plan))
    return folder / "out"


@pytest.fixture
def documents(output):
    names = sorted((output / "entities").glob("part-*.parquet"))
    return [row for name in names for row in pq.read_table(name).to_pylist()]


@pytest.fixture
def entities(documents):
    """The rows of a flat table."""
    return [
        {name: row[name] for name in ("doc_id", "url", "lang")} | entity
        for row in documents
        for entity in row["entities"]
    ]


def export(*arguments):
    return main(["export", *map(str, arguments)])


def test_a_flat_file_has_a_row_for_each_entity(output, documents, entities, tmp_path, capsys):
    for suffix in ("parquet", "jsonl", "csv"):
        assert export(output, tmp_path / f"flat.{suffix}", "--flat") == 0
    said = f"{len(entities)} entities of {len(documents)} documents: {tmp_path}/flat.csv"
    assert said in capsys.readouterr().out
    assert len(documents) == 10
    assert len(entities) > 10
    table = pq.read_table(tmp_path / "flat.parquet")
    assert table.schema.equals(FLAT)
    assert table.to_pylist() == entities
    lines = (tmp_path / "flat.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == entities
    with (tmp_path / "flat.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [entity["text"] for entity in entities]
    assert [int(row["start"]) for row in rows] == [entity["start"] for entity in entities]
    assert rows[0].keys() == entities[0].keys()


@pytest.mark.parametrize(
    ("texts", "formulas"),
    [
        (["=1+1", "+x", "-2", "@SUM(A1)", "\t=1"], 5),
        (["1=1", "a-b", 'say "=1"', "two\nlines", " lead", "NA", "", "'=1"], 0),
    ],
)
def test_csv_reads_back_equal_and_formulas_are_counted(
    output, tmp_path, monkeypatch, capsys, texts, formulas
):
    def read_part(folder, name, columns):
        rows = read_as_it_is(folder, name, columns)
        if not name.endswith(first):
            return rows.slice(0, 0)
        column = pa.array([[{"text": text} for text in texts]], rows["entities"].type)
        return rows.slice(0, 1).set_column(columns.index("entities"), "entities", column)

    first = min(path.name for path in (output / "entities").iterdir())
    read_as_it_is = export_module.read_part
    monkeypatch.setattr(export_module, "read_part", read_part)
    assert export(output, tmp_path / "a.csv", "--flat") == 0
    assert list(pandas.read_csv(tmp_path / "a.csv", keep_default_na=False)["text"]) == texts
    said = (
        f"{formulas} cells with = + - @ or a tab in front, which a spreadsheet takes for formulas"
    )
    assert (said in capsys.readouterr().out) is bool(formulas)


def test_without_flat_a_row_is_a_document(output, documents, tmp_path):
    assert export(output, tmp_path / "all.jsonl") == 0
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == documents


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.csv", [], "a line of CSV cannot hold a document's list of entities; add --flat"),
        ("a.xlsx", ["--flat"], "the name must end in .parquet, .jsonl or .csv"),
    ],
)
def test_a_format_that_does_not_fit_is_refused(output, tmp_path, capsys, name, options, message):
    assert export(output, tmp_path / name, *options) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_duckdb_opens_the_output_as_it_is(output, entities):
    written = re.search(r'duckdb\.sql\("(.*)"\)', (output / "README.md").read_text())
    query = written[1].replace("FOLDER", str(output))
    found = duckdb.sql(query).fetchall()
    assert [row[:5] for row in sorted(found)] == sorted(
        (row["doc_id"], *(row[name] for name in ("start", "end", "text", "label")))
        for row in entities
    )


def test_the_card_names_the_tables_for_datasets(output):
    """`datasets.load_dataset` reads the head of README.md; tried with `datasets` by hand."""
    head = yaml.safe_load((output / "README.md").read_text().split("---")[1])
    assert [one["config_name"] for one in head["configs"]] == ["entities", "candidates"]
    assert [config.get("default", False) for config in head["configs"]] == [True, False]
    for one in head["configs"]:
        assert len(list(output.glob(one["data_files"]))) == 3  # units of 5 documents: 6 and 4


@pytest.mark.parametrize("name", ["notes.csv", "out/entities"])
def test_no_file_that_is_there_is_overwritten(output, tmp_path, capsys, name):
    target = tmp_path / "notes.csv"
    if name != "notes.csv":
        target = next((output / "entities").glob("part-*.parquet"))
    else:
        target.write_bytes(b"mine")
    before = target.read_bytes()
    assert export(output, target, "--flat") == 2
    assert f"{target}: is there already" in capsys.readouterr().err
    assert target.read_bytes() == before


@pytest.mark.parametrize("is_own", [True, False])
def test_a_card_is_renewed_and_a_readme_of_others_stays(tmp_path, monkeypatch, caplog, is_own):
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    write_parquet(crawl / "a.parquet", [text_of(0)])
    plan = plan_of(crawl, tmp_path / "out", write_checkpoint(tmp_path / "checkpoint"))
    result = extract_in_process(monkeypatch, plan)
    write_run_report(plan, result)
    card = tmp_path / "out" / "README.md"
    written = card.read_text()
    card.write_text(f"an older card\n{written}" if is_own else "our data, do not delete")
    write_run_report(plan, result)
    assert card.read_text() == (written if is_own else "our data, do not delete")
    assert ("README.md is not a run's" in caplog.text) is not is_own


@pytest.mark.usefixtures("s3")
def test_an_output_in_a_bucket_is_exported_into_another(output, entities, tmp_path):
    store = s3fs.S3FileSystem()
    for bucket in ("crawl", "lists"):
        store.mkdir(bucket)
    store.put(f"{output}/", "crawl/out", recursive=True)
    assert export("s3://crawl/out", tmp_path / "flat.csv", "--flat") == 0
    for suffix in ("parquet", "jsonl", "csv"):
        target = f"s3://lists/new/flat.{suffix}"
        assert export("s3://crawl/out", target, "--flat") == 0
        assert export("s3://crawl/out", target, "--flat") == 2  # nothing is overwritten
    with store.open("lists/new/flat.parquet") as file:
        assert pq.read_table(file).to_pylist() == entities
    lines = store.cat_file("lists/new/flat.jsonl").decode().splitlines()
    assert [json.loads(line) for line in lines] == entities
    assert store.cat_file("lists/new/flat.csv") == (tmp_path / "flat.csv").read_bytes()
