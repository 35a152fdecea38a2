"""What is secret in the address of a shard is in no file of a run, and in no line of its log."""

import json
import logging
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pyarrow.parquet as pq
import pytest

from linkner_ray.cli import main
from linkner_ray.logs import JsonFormatter, TextFormatter
from linkner_ray.runs.folder import RunFolder
from tests.crawl import overrides, text_of, write_checkpoint

SECRET = "Hunter2Hunter2"  # noqa: S105 - nobody's


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, whoever asks."""

    def log_message(self, *_):
        pass


@pytest.fixture
def shards(tmp_path):
    """Addresses with a password, a signature and a token."""
    folder = tmp_path / "served"
    folder.mkdir()
    lines = [json.dumps({"text": text_of(number)}) for number in range(4)]  # without ids
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        (folder / name).write_text("\n".join([*lines, "no json"]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_address[1]}"
    yield [
        f"http://me:{SECRET}@{host}/a.jsonl",
        f"http://{host}/b.jsonl?X-Amz-Date=1&X-Amz-Signature={SECRET}",
        f"http://{host}/c.jsonl?token={SECRET}",
    ]
    server.shutdown()
    server.server_close()


def content_of(path):
    if path.suffix != ".parquet":
        return path.read_text(errors="replace")
    table = pq.read_table(path)
    return f"{table.to_pylist()} {table.schema.metadata}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.usefixtures("without_ray")
def test_secrets_of_addresses_are_in_no_file_and_no_line(shards, tmp_path, capfd):
    output = tmp_path / "out"
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    command = [
        "extract", *overrides("", output, checkpoint), f"input.paths={json.dumps(shards)}",
        "input.format=jsonl", "errors.max_share=1",
    ]  # fmt: skip
    assert main([*command, "--dry-run"]) == 0
    assert main(command) == 0
    assert main(command) == 0  # nothing to do
    assert main(["failures", "list", str(output)]) == 0
    assert main(["failures", "requeue", str(output), "--dry-run"]) == 0
    said = "".join(capfd.readouterr())
    files = {path: content_of(path) for path in output.rglob("*") if path.is_file()}
    assert [path for path, content in files.items() if SECRET in content] == []
    assert SECRET not in said
    assert "X-Amz-Date=1&X-Amz-Signature=***" in said
    # Each is known all the same, and those of one name are told apart.
    units = RunFolder(str(output)).unit_results()
    assert len({unit.source_digest for unit in units}) == 3
    listed = pq.read_table(output / "_manifest.parquet", filters=[("rows", ">", 0)])
    assert {path for path in listed["source"].to_pylist() if path} >= {
        shard.replace(f"me:{SECRET}", "***").replace(SECRET, "***") for shard in shards
    }
    quarantined = pq.read_table(output / "_quarantine").to_pylist()
    assert [row["reason"] for row in quarantined] == ["bad_json"] * 3


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter("%(message)s")])
def test_a_line_of_the_log_has_no_secret(formatter):
    error = OSError(f'"http://h/a?sig={SECRET}" is gone')
    record = logging.LogRecord("linkner_ray", logging.WARNING, "", 0, "%s", (error,), None)
    record.url = f"https://me:{SECRET}@h"
    line = formatter.format(record)
    assert SECRET not in line
    said = json.loads(line)["message"] if isinstance(formatter, JsonFormatter) else line
    assert said == '"http://h/a?sig=***" is gone'
