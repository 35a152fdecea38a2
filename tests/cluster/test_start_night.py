"""cluster/start_night.py against a server that answers as the Kubernetes API does."""

import importlib.util
import json
import sys
import threading
from datetime import date
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.repository import ROOT

_SPEC = importlib.util.spec_from_file_location("start_night", ROOT / "cluster/start_night.py")
assert _SPEC is not None
assert _SPEC.loader is not None
start_night = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(start_night)

TEMPLATE = (ROOT / "cluster/rayjob.yaml").read_text(encoding="utf-8")
NIGHT = date(2026, 11, 23)
NAME = "linkner-2026-11-23"


class Api:
    """RayJobs of the namespace `crawl`, with the answers to give to each look at one."""

    def __init__(self):
        self.rayjobs = {}
        self.answers = []
        self.tokens = []


class Handler(BaseHTTPRequestHandler):
    """Answers from the `api` of its server."""

    def do_POST(self):
        api = self.server.api
        api.tokens.append(self.headers["Authorization"])
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = body["metadata"]["name"]
        if self.path != "/apis/ray.io/v1/namespaces/crawl/rayjobs" or body["kind"] != "RayJob":
            self.answer(403, {"message": "rayjobs of crawl only"})
        elif name in api.rayjobs:
            self.answer(409, {"message": "already exists"})
        else:
            api.rayjobs[name] = body
            self.answer(201, body)

    def do_GET(self):
        api = self.server.api
        api.tokens.append(self.headers["Authorization"])
        name = self.path.rpartition("/")[2]
        if name not in api.rayjobs:
            self.answer(404, {"message": f"rayjobs {name} not found"})
            return
        answer = api.answers.pop(0) if len(api.answers) > 1 else api.answers[0]
        if isinstance(answer, int):
            self.answer(answer, {})
        else:
            self.answer(200, {"metadata": {"name": name}, **answer})

    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def account(tmp_path):
    (tmp_path / "namespace").write_text("crawl\n")
    (tmp_path / "token").write_text("first\n")
    return tmp_path


@pytest.fixture
def jobs(api, account):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.api = api
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    host, port = server.server_address[:2]
    yield start_night.RayJobs(lambda: HTTPConnection(host, port, timeout=5), account)
    server.shutdown()
    thread.join()
    server.server_close()


def status(deployment, job="", message=""):
    return {"status": {"jobDeploymentStatus": deployment, "jobStatus": job, "message": message}}


def test_the_night_is_the_one_the_job_was_due_in():
    # 2026-11-23 01:30 UTC is 1795397400 s after 1970, 29923290 minutes
    assert start_night.night_of("linkner-nightly-29923290") == NIGHT


@given(st.dates())
def test_any_date_at_the_end_of_a_name_is_read(night):
    assert start_night.night_of(f"again-{night.isoformat()}") == night


@pytest.mark.parametrize("name", ["", "linkner-nightly", "linkner-nightly-7", "x-2026-13-40"])
def test_a_name_without_a_night_is_refused(name):
    with pytest.raises(start_night.StartError):
        start_night.night_of(name)


def test_the_template_is_filled_in_everywhere():
    rayjob = start_night.rayjob_of(TEMPLATE, NIGHT)
    assert rayjob["metadata"]["name"] == NAME
    assert "NIGHT" not in json.dumps(rayjob)
    assert "crawl/2026-11-23/" in rayjob["spec"]["runtimeEnvYAML"]
    assert "night.name=2026-11-23" in rayjob["spec"]["entrypoint"]


def test_a_template_with_a_fixed_name_is_refused():
    with pytest.raises(start_night.StartError, match="holds no NIGHT"):
        start_night.rayjob_of(TEMPLATE.replace("linkner-NIGHT", "linkner"), NIGHT)


def test_a_night_is_created_once(api, jobs):
    rayjob = start_night.rayjob_of(TEMPLATE, NIGHT)
    assert jobs.create(rayjob) is True
    assert jobs.create(rayjob) is False
    assert list(api.rayjobs) == [NAME]


def test_a_refusal_is_an_error_with_its_reason(jobs):
    with pytest.raises(start_night.StartError, match="403 rayjobs of crawl only"):
        jobs.create({"kind": "Pod", "metadata": {"name": NAME}})


@pytest.mark.parametrize(
    ("last", "succeeded"),
    [
        (status("Complete", "SUCCEEDED"), True),
        (status("Complete", "STOPPED"), False),
        (status("Failed", "FAILED", "Job entrypoint command failed with exit code 3"), False),
        (status("ValidationFailed"), False),
    ],
)
def test_the_end_of_a_job_is_told(api, jobs, last, succeeded):
    api.rayjobs[NAME] = {}
    api.answers = [{}, status("Initializing"), status("Running", "RUNNING"), last]
    assert start_night.wait_for(jobs, NAME, interval_s=0) is succeeded


def test_a_short_loss_of_the_api_is_survived(api, jobs):
    api.rayjobs[NAME] = {}
    api.answers = [500, 429, 503, status("Running"), 500, status("Complete", "SUCCEEDED")]
    assert start_night.wait_for(jobs, NAME, interval_s=0)


def test_a_long_loss_of_the_api_ends_the_wait(api, jobs):
    api.rayjobs[NAME] = {}
    api.answers = [503]
    with pytest.raises(start_night.StartError, match="21 times in a row"):
        start_night.wait_for(jobs, NAME, interval_s=0)


def test_a_job_that_was_deleted_ends_the_wait(jobs):
    with pytest.raises(start_night.StartError, match="404 rayjobs linkner-2026-11-23 not found"):
        start_night.wait_for(jobs, NAME, interval_s=0)


def test_the_token_is_read_anew_for_every_call(api, jobs, account):
    api.rayjobs[NAME] = {}
    api.answers = [status("Running")]
    jobs.status(NAME)
    (account / "token").write_text("second\n")
    jobs.status(NAME)
    assert api.tokens == ["Bearer first", "Bearer second"]


def test_outside_a_pod_the_program_says_so_and_fails(monkeypatch, caplog):
    monkeypatch.setattr(sys, "argv", ["start_night.py", str(ROOT / "cluster/rayjob.yaml")])
    monkeypatch.setenv("JOB_NAME", "linkner-nightly-29923290")
    with caplog.at_level("ERROR"):
        assert start_night.main() == 1
    assert "serviceaccount/namespace" in caplog.text
