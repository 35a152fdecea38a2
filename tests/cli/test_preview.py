"""`linkner preview`: pages of any input as HTML, and nothing else."""

import re

from linkner_ray.cli import main
from tests.crawl import text_of, write_crawl, write_parquet
from tests.endpoint_server import Server, completion
from tests.pages import Page


def preview(*arguments):
    return main(["preview", *map(str, arguments)])


def test_pages_of_every_format_are_shown_and_nothing_else_is_written(
    checkpoint, tmp_path, capsys, monkeypatch
):
    crawl = write_crawl(tmp_path / "crawl")
    before = sorted(crawl.rglob("*"))
    monkeypatch.chdir(tmp_path)
    model = f"recognize.checkpoint={checkpoint}"
    assert preview(f"input.paths=[{crawl}]", model, "--pages", 7, "--html", "look.html") == 0
    said = capsys.readouterr().out
    page = Page((tmp_path / "look.html").read_text())
    assert len(page.cards) == 7
    assert len(page.marks) > 7
    assert f"7 pages with {len(page.marks)} entities: look.html" in said
    assert "7 pages of 4 shards" in page.text
    assert re.search(r"\nlocal label: \w+; \w+ 0\.\d{3}, \w+ 0\.", page.marks[0][4])
    assert sorted(crawl.rglob("*")) == before
    assert {path.name for path in tmp_path.iterdir()} == {"crawl", "look.html"}


def test_the_llm_is_asked_only_if_that_is_said(checkpoint, tmp_path, capsys):
    write_parquet(tmp_path / "a.parquet", [text_of(number) for number in range(3)])
    server = Server()
    server.reply = lambda _number, _body: (200, completion("B", {"B": 0.7, "A": 0.2, "C": 0.1}))
    arguments = [
        f"input.paths=[{tmp_path}/a.parquet]", f"recognize.checkpoint={checkpoint}",
        "llm.backend=openai", "llm.model=judge", f"llm.base_url={server.url}",
        "routing.threshold=0", "--html", tmp_path / "look.html",
    ]  # fmt: skip
    try:
        assert preview(*arguments) == 0
        assert server.bodies == []
        page = Page((tmp_path / "look.html").read_text())
        assert "no LLM" in page.text
        assert {mark[2] for mark in page.marks} == {"local"}
        assert preview(*arguments, "--llm") == 0
        assert len(server.bodies) > 3
        assert "questions" in capsys.readouterr().out
        marks = Page((tmp_path / "look.html").read_text()).marks
        assert any("\nLLM label: ORG; ORG 0.700, " in mark[4] for mark in marks)
    finally:
        server.close()


def test_an_input_without_documents_is_said_to_have_none(checkpoint, tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text("broken\n")
    arguments = [f"input.paths=[{tmp_path}/a.jsonl]", f"recognize.checkpoint={checkpoint}"]
    assert preview(*arguments, "--html", tmp_path / "look.html") == 2
    assert "no documents; 1 shard looked into" in capsys.readouterr().err
    assert not (tmp_path / "look.html").exists()


def test_a_budget_for_a_whole_run_does_not_count_and_that_is_said(checkpoint, tmp_path, capsys):
    write_parquet(tmp_path / "a.parquet", [text_of(number) for number in range(3)])
    server = Server()
    arguments = [
        f"input.paths=[{tmp_path}/a.parquet]", f"recognize.checkpoint={checkpoint}",
        "llm.backend=openai", "llm.model=judge", f"llm.base_url={server.url}",
        "routing.budget=1 call", "routing.threshold=0", "--html", tmp_path / "look.html",
    ]  # fmt: skip
    try:
        assert preview(*arguments) == 0
        assert "whole run" not in capsys.readouterr().out  # nobody was asked
        assert preview(*arguments, "--llm") == 0
    finally:
        server.close()
    said = capsys.readouterr().out
    assert int(re.search(r"(\d+) questions", said)[1]) > 1
    note = "routing.budget = '1 call' is for a whole run and does not count here"
    assert note in said
    assert note in Page((tmp_path / "look.html").read_text()).text
