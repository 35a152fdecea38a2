"""docs/cluster.md: what it tells people to type exists, and its queries run."""

import re
import shlex

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from ray.dashboard.modules.job.cli import job_cli_group
from ray.job_submission import JobDetails
from ray.scripts.scripts import cli as ray_cli

from linkner_ray import errors
from linkner_ray.cli.app import app
from linkner_ray.config import ExtractConfig, NightlyConfig
from linkner_ray.config.loading import load_config
from linkner_ray.schemas import QUARANTINE
from tests.cluster.repository import IMAGE_TAG, ROOT

TEXT = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands():
    """Command lines of the bash blocks, split into words."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line]


def options_of(command):
    return {name for parameter in command.params for name in parameter.opts}


def test_every_command_of_ours_exists():
    known = set(typer.main.get_command(app).commands)
    named = set(re.findall(r"`linkner (\w+)", TEXT))
    assert named
    assert named <= known
    for path in re.findall(r"jobs/(?:configs/)?\w+\.(?:py|yaml)", TEXT):
        assert (ROOT / path).exists(), path


def test_every_option_of_our_commands_exists():
    checked = 0
    for words in commands():
        if words[0] != "linkner":
            continue
        command, rest = typer.main.get_command(app), words[1:]
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        options = {word for word in rest if word.startswith("--")}
        assert options <= options_of(command), words
        checked += 1
    assert checked == 3


def test_every_ray_command_and_option_exists():
    checked = 0
    for words in commands():
        if words[0] != "ray":
            continue
        if words[1] == "job":
            command, rest = job_cli_group.commands[words[2]], words[3:]
        else:
            command, rest = ray_cli.commands[words[1]], words[2:]
        own = rest[: rest.index("--")] if "--" in rest else rest
        assert {word for word in own if word.startswith("--")} <= options_of(command), words
        checked += 1
    assert checked == 7


def test_the_submitted_job_has_a_config_that_loads():
    [words] = [words for words in commands() if words[:3] == ["ray", "job", "submit"]]
    entrypoint = words[words.index("--") + 1 :]
    assert entrypoint[:3] == ["python", "jobs/extract.py", "--config"]
    config = load_config(ExtractConfig, str(ROOT / entrypoint[3]), entrypoint[4:], environment={})
    assert config.input.paths == ("s3://linkner-example/crawl/2026-11-23/",)
    assert config.output.path == "s3://linkner-example/entities/2026-11-23/"


def test_every_config_key_that_is_named_exists():
    sections = "input|output|recognize|routing|llm|errors|resources|night|drift"
    named = set(re.findall(rf"\b({sections})\.(\w+)\b", TEXT))
    assert len(named) > 10
    for section, key in named:
        if (section, key) in {("night", "md")}:  # a file
            continue
        fields = NightlyConfig.model_fields[section].annotation.model_fields
        assert key in fields, f"{section}.{key}"


def test_every_file_that_is_named_exists():
    table = TEXT.split("\n\n")[2]
    for name in re.findall(r"^\| `([^`]+)`", table, flags=re.MULTILINE):
        assert (ROOT / name).exists(), name


def test_the_image_is_the_one_of_this_version():
    tags = set(re.findall(r"linkner-ray:(\S+)", TEXT))
    assert tags == {IMAGE_TAG}


def test_every_exit_code_is_explained():
    explained = {int(code) for code in re.findall(r"^\| (\d) \|", TEXT, flags=re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert explained == {0} | {kind.exit_code for kind in kinds}


def test_ray_tells_the_exit_code_of_a_job():
    assert "driver_exit_code" in JobDetails.model_fields
    for block in blocks("python"):
        compile(block, "README.md", "exec")


ROWS = [
    # a whole file, then two documents of another
    {"path": "s3://linkner-example/crawl/2026-11-23/00018.warc.gz", "reason": "unreadable_file"},
    {
        "path": "s3://linkner-example/crawl/2026-11-23/00017.warc.gz",
        "record": 4,
        "doc_id": "b",
        "reason": "too_long",
        "num_chars": 7_000_000,
    },
    {
        "path": "s3://linkner-example/crawl/2026-11-23/00017.warc.gz",
        "record": 2,
        "doc_id": "a",
        "reason": "too_long",
        "num_chars": 6_000_000,
    },
]


@pytest.fixture
def quarantine(tmp_path):
    rows = [{"detail": "", "num_chars": 0, **row} for row in ROWS]
    table = pa.Table.from_pylist(rows, schema=QUARANTINE)
    pq.write_table(table, tmp_path / "part-0.parquet")
    return tmp_path


def test_the_queries_run_on_a_quarantine(quarantine):
    by_shard, of_one = [
        duckdb.sql(
            query.replace("s3://linkner-example/entities/2026-11-23/_quarantine", str(quarantine))
        ).fetchall()
        for query in blocks("sql")
    ]
    shard = "s3://linkner-example/crawl/2026-11-23"
    assert by_shard == [
        (f"{shard}/00017.warc.gz", "too_long", 2, 13_000_000),
        (f"{shard}/00018.warc.gz", "unreadable_file", 1, 0),
    ]
    assert [row[2] for row in of_one] == ["a", "b"]
