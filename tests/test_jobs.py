"""The jobs as a user starts them: processes, exit codes, kills, S3, `ray job submit`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.dataset as ds
import pytest
import yaml

from linkner_ray.cli import main
from linkner_ray.extract import job as extraction
from linkner_ray.extract import ray_start
from linkner_ray.runs import code_version
from linkner_ray.spanner.model import SpanNER
from tests.cluster.repository import copy_checkout
from tests.crawl import (
    config_of,
    files_of,
    overrides,
    text_of,
    write_parquet,
)
from tests.endpoint_server import GOOD, Server
from tests.local_pipeline import extract_here, run_here
from tests.spanner import tiny

ROOT = Path(__file__).parent.parent
EXTRACT = [sys.executable, str(ROOT / "jobs" / "extract.py")]

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]


def extract(*arguments, **environment):
    """Run the job to its end."""
    return subprocess.run(
        [*EXTRACT, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("routing.threshold=1.5", "expected 1.0 or less, found 1.5"),
        ("input.text_column=body", "set input.text_column"),
    ],
)
def test_a_wrong_config_exits_2_with_one_message_and_writes_nothing(
    crawl, checkpoint, tmp_path, change, message, capsys
):
    assert main(["extract", *overrides(crawl, tmp_path / "out", checkpoint, change)]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--confg", "x.yaml"], ["--config"]])
def test_a_wrong_flag_exits_2_with_one_message(arguments):
    done = extract(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "--conf" in done.stderr


def test_too_much_quarantine_exits_3_and_keeps_what_is_good(
    crawl, checkpoint, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(ray_start, "start_ray", lambda: None)
    monkeypatch.setattr(extraction, "run_extraction", run_here)
    arguments = overrides(crawl, tmp_path / "out", checkpoint, "errors.max_share=0.01")
    assert main(["extract", *arguments]) == 3
    assert "errors.max_share" in capsys.readouterr().err
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_a_run_killed_in_the_middle_ends_with_the_bytes_of_one_never_killed(checkpoint, tmp_path):
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    for shard in range(6):
        texts = [text_of(10 * shard + row) for row in range(10)]
        write_parquet(crawl / f"{shard}.parquet", texts, first=10 * shard)
    arguments = overrides(crawl, tmp_path / "out", checkpoint)
    process = subprocess.Popen([*EXTRACT, *arguments], stdout=subprocess.DEVNULL)
    wait_for(lambda: list((tmp_path / "out" / "entities").glob("part-*")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    again = extract(*arguments)
    assert again.returncode == 0, again.stderr
    extract_here(*overrides(crawl, tmp_path / "unkilled", checkpoint))
    assert decisive(tmp_path / "out") == decisive(tmp_path / "unkilled")


@pytest.mark.soak
def test_a_run_stopped_by_sigterm_says_what_is_done_and_goes_on(checkpoint, server, tmp_path):
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    write_parquet(crawl / "a.parquet", [text_of(row) for row in range(30)])
    # The start-up question and the first unit get through, the rest has to wait.
    server.reply = lambda number, _: (time.sleep(0 if number < 30 else 1), GOOD)[1]
    llm = ["llm.backend=openai", f"llm.base_url={server.url}", "llm.model=slow"]
    slow = [*llm, "routing.threshold=0", "llm.max_in_flight=1", "resources.llm_concurrent_units=1"]
    arguments = overrides(crawl, tmp_path / "out", checkpoint, *slow)
    process = subprocess.Popen([*EXTRACT, *arguments], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(server.bodies) > 30, process)
    second = extract(*arguments)
    assert second.returncode == 2
    assert f"process {process.pid} since" in second.stderr
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 143, errors
    assert "stopped by SIGTERM: " in errors
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "out" / "_lock").iterdir()) == []
    server.reply = lambda *_: GOOD
    again = extract(*arguments)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / "_SUCCESS").exists()


def decisive(output):
    """All files but the one that names the output folder."""
    return {name: data for name, data in files_of(output).items() if name != "_run.json"}


def wait_for(condition, process=None, *, seconds=240):
    """Wait for something to become true while a process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, "the process ended too early"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_the_same_job_from_and_to_s3(s3, crawl, checkpoint, tmp_path):
    import s3fs

    store = s3fs.S3FileSystem(endpoint_url=s3["AWS_ENDPOINT_URL"], key="test", secret="test")
    store.mkdir("bucket")
    store.put(str(crawl), "bucket/crawl", recursive=True)
    store.put(checkpoint, "bucket/model", recursive=True)
    arguments = overrides("s3://bucket/crawl", "s3://bucket/out", "s3://bucket/model")
    done = extract(*arguments)
    assert done.returncode == 0, done.stderr
    assert store.exists("bucket/out/_SUCCESS")
    extract_here(*overrides(crawl, tmp_path / "out", checkpoint))
    there = rows(ds.dataset("bucket/out/entities", filesystem=store))
    assert there == rows(ds.dataset(tmp_path / "out" / "entities"))
    assert "nothing to do" in extract(*arguments).stdout


@pytest.mark.soak
def test_training_keeps_its_epochs_and_its_checkpoint_on_s3(s3, tmp_path):
    import s3fs

    store = s3fs.S3FileSystem(endpoint_url=s3["AWS_ENDPOINT_URL"], key="test", secret="test")
    store.mkdir("models")
    labels = tmp_path / "labels.yaml"
    labels.write_text(yaml.safe_dump(tiny.LABELS.model_dump(mode="json")))
    corpus = tmp_path / "corpus.conll"
    corpus.write_text("Peter B-PER\nmet O\nIBM B-ORG\n. O\n\n" * 8)
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "jobs" / "train.py"), f"corpus.train={corpus}",
            f"corpus.dev={corpus}", f"corpus.label_set={labels}",
            f"model.encoder={tiny.save_bert(tmp_path / 'encoder')}", "model.max_subwords=64",
            "model.window_overlap=16", "training.epochs=2", "training.batch_size=4",
            "output.storage=s3://models/storage", "output.checkpoint=s3://models/mine",
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert store.exists("models/mine/model.safetensors")
    assert store.ls("models/storage")
    assert SpanNER.from_pretrained("s3://models/mine").label_set == tiny.LABELS


def rows(dataset):
    return dataset.to_table().sort_by("doc_id").to_pylist()


@pytest.fixture(scope="module")
def head():
    """A head started by the command line, and a client of its job server."""
    from ray.job_submission import JobSubmissionClient

    port, dashboard, agent = free_port(), free_port(), free_port()
    process = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
            f"--port={port}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
            f"--dashboard-agent-listen-port={agent}", "--num-cpus=2", "--disable-usage-stats",
            f"--temp-dir=/tmp/ray-head-{port}",
        ],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    client = None

    def takes_jobs():
        nonlocal client
        try:
            client = JobSubmissionClient(f"http://127.0.0.1:{dashboard}")
            client.submit_job(entrypoint="true")
        except (ConnectionError, RuntimeError):  # not up yet; up, but its agent is not
            return False
        return True

    wait_for(takes_jobs, process)
    yield client
    parts = psutil.Process(process.pid).children(recursive=True)
    for part in (*parts, process):  # SIGTERM would drain the node for half a minute
        part.kill()
    process.wait()


CANDIDATE_PORTS = iter(range(20011, 29999, 7))


def free_port():
    """Another free port each time, outside the range that Ray gives to its workers."""
    for port in CANDIDATE_PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no free port")


def submit(head, *arguments):
    return head.submit_job(
        entrypoint=" ".join([*EXTRACT, *(f"'{argument}'" for argument in arguments)]),
        runtime_env={"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "20", "RAY_AUTH_MODE": "disabled"}},
    )


def status_of(head, job):
    from ray.job_submission import JobStatus

    wait_for(lambda: head.get_job_status(job).is_terminal())
    status = head.get_job_status(job)
    return status is JobStatus.SUCCEEDED, status.value, head.get_job_info(job).driver_exit_code


def test_a_submitted_job_with_a_wrong_config_fails_with_its_exit_code(head, crawl, checkpoint):
    job = submit(head, *overrides(crawl, "/nowhere/out", checkpoint, "routing.treshold=1"))
    assert status_of(head, job) == (False, "FAILED", 2)
    assert "did you mean 'routing.threshold'" in head.get_job_logs(job)


def test_a_submitted_job_can_be_stopped_and_succeeds_when_it_is_started_again(
    head, server, crawl, checkpoint, tmp_path
):
    server.reply = lambda number, _: (time.sleep(1.0 if number else 0), GOOD)[1]
    llm = ["llm.backend=openai", f"llm.base_url={server.url}", "llm.model=slow"]
    slow = [*llm, "routing.threshold=0", "llm.max_in_flight=1"]
    arguments = overrides(crawl, tmp_path / "out", checkpoint, *slow)
    job = submit(head, *arguments)
    wait_for(lambda: len(server.bodies) > 1)
    assert list((tmp_path / "out" / "_lock").iterdir())
    head.stop_job(job)
    assert status_of(head, job)[1] == "STOPPED"
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert "stopped by SIGTERM" in head.get_job_logs(job)
    assert list((tmp_path / "out" / "_lock").iterdir()) == []
    server.reply = lambda *_: GOOD
    again = submit(head, *arguments)
    assert status_of(head, again) == (True, "SUCCEEDED", 0), head.get_job_logs(again)
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert "entities" in head.get_job_logs(again)


@pytest.mark.soak
def test_a_folder_of_code_is_submitted_from_elsewhere(
    head, crawl, checkpoint, tmp_path, monkeypatch
):
    code, elsewhere = tmp_path / "code", tmp_path / "elsewhere"
    copy_checkout(code)
    elsewhere.mkdir()
    # Code that is nowhere else, and a config that only the job's own folder has.
    (code / "linkner_ray" / "mine.txt").write_text("changed\n")
    arguments = overrides(crawl, str(tmp_path / "out"), checkpoint)
    (code / "mine.yaml").write_text(yaml.safe_dump(config_of(*arguments).model_dump(mode="json")))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ray")), "job", "submit",
            "--address", head.get_address(), "--submission-id", "from-elsewhere",
            "--working-dir", str(code), "--",
            sys.executable, "jobs/extract.py", "--config", "mine.yaml",
        ],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    fingerprint = json.loads((tmp_path / "out" / "_run.json").read_text())
    with monkeypatch.context() as patch:
        patch.setattr(code_version, "PACKAGE", code / "linkner_ray")
        assert fingerprint["code"]["sources"] == code_version._sources_digest()
    extract_here(*overrides(crawl, tmp_path / "here", checkpoint))
    there = rows(ds.dataset(tmp_path / "out" / "entities"))
    assert there == rows(ds.dataset(tmp_path / "here" / "entities"))
    assert len(there) > 20
    assert list(elsewhere.iterdir()) == []
