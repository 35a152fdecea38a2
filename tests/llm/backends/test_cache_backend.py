import threading
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest

from linkner_ray.config import CacheConfig, LlmConfig
from linkner_ray.errors import BackendError, StartupError
from linkner_ray.labels import NON_ENTITY
from linkner_ray.llm.backends import start_backend
from linkner_ray.llm.backends.cache_backend import CacheBackend
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.cache.files import CacheFolder
from linkner_ray.llm.context import Question
from linkner_ray.llm.prompts import PromptBuilder, Verdict
from tests.endpoint_server import GOOD, Server
from tests.fakes import ScriptedBackend
from tests.llm.caches import CLASSES, LABELS

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SCRIPT = {
    "Ada": {"PER": 1.0, "ORG": 2.0, NON_ENTITY: 0.1},
    "Bo": NON_ENTITY,
    "Cy": Verdict.FAILED,
    "Un": Verdict.UNREADABLE,
}


def request(span, **changes):
    made = PromptBuilder.for_label_set(
        LABELS, ("A", "B", "C"), model="some-llm", decoding="scripted", **changes
    )
    return made.request(Question(f"{span} left.", 0, len(span)))


@pytest.fixture
def start(tmp_path):
    """A scripted backend and the answer cache in front of it; each call stands for a new
    process."""

    def start(script=SCRIPT):
        scripted = ScriptedBackend(LABELS, script)
        cache = AnswerCache(str(tmp_path / "cache"), model="some-llm", classes=CLASSES)
        return scripted, CacheBackend(scripted, cache, now=lambda: NOON)

    return start


def content_of(answers):
    return [(answer.verdict, answer.label, answer.probs, answer.prompt_tokens, answer.key)
            for answer in answers]  # fmt: skip


def test_what_was_answered_is_not_asked_again_and_is_the_same(start):
    requests = [request("Ada"), request("Bo"), request("Dee")]
    first, backend = start()
    told = backend.ask(requests)
    assert [answer.source for answer in told] == ["llm"] * 3
    second, backend = start()
    kept = backend.ask(requests)
    assert [answer.source for answer in kept] == ["cache"] * 3
    assert (len(first.requests), second.requests) == (3, [])
    assert content_of(kept) == content_of(told)


@pytest.mark.parametrize("span", ["Cy", "Un"])
def test_what_failed_or_cannot_be_read_is_not_kept_and_is_asked_again(start, tmp_path, span):
    _, backend = start()
    assert backend.ask([request(span)])[0].verdict is SCRIPT[span]
    assert not list((tmp_path / "cache").glob("**/*.parquet"))
    scripted, backend = start({span: "PER"})
    (answer,) = backend.ask([request(span)])
    assert (answer.verdict, answer.label, answer.source) == (Verdict.LABEL, "PER", "llm")
    assert len(scripted.requests) == 1


def test_only_the_rest_is_asked_in_one_call_and_in_order(start):
    start()[1].ask([request("Bo"), request("Ada")])
    scripted, backend = start()
    answers = backend.ask([request("X"), request("Ada"), request("Y"), request("Bo")])
    assert [asked.question.span for asked in scripted.requests] == ["X", "Y"]
    assert scripted.num_calls == 1
    assert [answer.source for answer in answers] == ["llm", "cache", "llm", "cache"]
    assert [answer.key for answer in answers] == [request(s).key for s in ("X", "Ada", "Y", "Bo")]


def test_a_file_holds_the_answers_of_one_call_with_all_their_facts(start, tmp_path):
    start()[1].ask([request("Ada", revision="r1"), request("Bo"), request("Cy")])
    (path,) = (tmp_path / "cache").iterdir()
    ada, bo = pq.read_table(path).to_pylist()
    assert ada["key"] == request("Ada", revision="r1").key
    assert (ada["verdict"], ada["label"], ada["model"]) == ("label", "ORG", "some-llm")
    assert (ada["revision"], bo["revision"]) == ("r1", None)
    assert [entry["class"] for entry in ada["probs"]] == ["O", "PER", "ORG"]
    assert ada["time"] == bo["time"] == NOON
    assert (bo["verdict"], bo["label"], bo["probs"][0]["prob"]) == ("non_entity", None, 1.0)


def test_a_second_process_that_asked_too_is_told_what_the_first_was(start):
    requests = [request("Ada")]
    _, first = start({"Ada": "PER"})
    _, second = start({"Ada": "ORG"})

    def meanwhile(_request):
        first.ask(requests)
        return "ORG"

    _, second = start(meanwhile)
    (answer,) = second.ask(requests)
    assert (answer.label, answer.source) == ("PER", "llm")
    assert second.describe()["cache_asked_elsewhere"] == 1
    assert start()[1].ask(requests)[0].label == "PER"


def test_what_another_process_kept_meanwhile_is_not_asked(start):
    _, first = start()
    scripted, second = start()
    first.ask([request("Ada"), request("Bo")])
    assert second.ask([request("Ada")])[0].source == "cache"
    assert scripted.requests == []
    described = second.describe()
    assert (described["cache_hits"], described.get("cache_misses", 0)) == (1, 0)


class Slow(ScriptedBackend):
    """Waits with its answers until it is let go."""

    def __init__(self, script):
        super().__init__(LABELS, script)
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def ask(self, requests):
        self.is_asked.set()
        assert self.may_answer.wait(30)
        return super().ask(requests)


def run(backend, requests, results, name):
    try:
        results[name] = backend.ask(requests)
    except BackendError as error:
        results[name] = error


def ask_twice_at_once(tmp_path, script):
    """Two threads ask: Ada and Bo, and while that is under way, Bo and Dee."""
    slow = Slow(script)
    cache = AnswerCache(str(tmp_path / "cache"), model="some-llm", classes=CLASSES)
    backend = CacheBackend(slow, cache)
    results = {}
    pairs = {"first": ("Ada", "Bo"), "second": ("Bo", "Dee")}
    threads = {
        name: threading.Thread(target=run, args=(backend, [*map(request, spans)], results, name))
        for name, spans in pairs.items()
    }
    threads["first"].start()
    assert slow.is_asked.wait(30)
    slow.is_asked.clear()
    threads["second"].start()
    assert slow.is_asked.wait(30)
    slow.may_answer.set()
    for thread in threads.values():
        thread.join(30)
    return slow, results


def test_threads_that_ask_the_same_at_once_ask_it_once(tmp_path):
    slow, results = ask_twice_at_once(tmp_path, {"Bo": "PER"})
    assert sorted(asked.question.span for asked in slow.requests) == ["Ada", "Bo", "Dee"]
    assert [answer.source for answer in results["first"]] == ["llm", "llm"]
    assert [answer.source for answer in results["second"]] == ["cache", "llm"]
    assert content_of(results["first"][1:]) == content_of(results["second"][:1])


def test_an_error_reaches_every_thread_that_waits(tmp_path):
    def script(asked):
        if asked.question.span == "Bo":
            raise BackendError("refused", retryable=False)
        return "PER"

    _, results = ask_twice_at_once(tmp_path, script)
    assert {str(error) for error in results.values()} == {"refused"}


def test_after_an_error_the_same_can_be_asked_again(start):
    def script(_request):
        raise BackendError("refused", retryable=False)

    scripted, backend = start(script)
    for _ in range(2):
        with pytest.raises(BackendError, match="refused"):
            backend.ask([request("Ada")])
    assert len(scripted.requests) == 2


def test_the_description_adds_the_caches_counts_to_the_backends(start):
    scripted, backend = start()
    backend.ask([request("Ada"), request("Bo")])
    backend.ask([request("Ada")])
    described = backend.describe()
    assert described["backend"] == "scripted"
    assert (described["cache_hits"], described["cache_misses"]) == (1, 2)
    assert described["cache_stored"] == 2
    backend.close()
    assert scripted.is_closed
    assert (backend.symbols, backend.decoding) == (scripted.symbols, "scripted")


def test_a_cache_stands_in_front_of_the_backend_that_a_config_names(tmp_path, monkeypatch):
    server = Server()
    monkeypatch.setattr(server, "reply", lambda *_: GOOD)
    config = LlmConfig(backend="openai", model="some-llm", base_url=server.url)
    cache = CacheConfig(path=str(tmp_path / "cache"))
    asked = [replace(request(span), decoding="one token, most probable") for span in ("Ada", "Bo")]
    told, asked_of_server = [], []
    for _ in range(2):
        server.bodies.clear()
        backend = start_backend(config, LABELS, cache)
        told.append(backend.ask(asked))
        backend.close()
        asked_of_server.append(len(server.bodies))
    server.close()
    assert asked_of_server == [
        5,
        0,
    ]  # three questions at the start and the two; then nothing at all
    assert content_of(told[0]) == content_of(told[1])
    rows = pq.read_table(tmp_path / "cache")
    assert rows.num_rows == 2
    assert all(0 < latency < 60 for latency in rows["latency_s"].to_pylist())
    assert rows["prompt_tokens"].to_pylist() == [42, 42]


def test_a_server_that_refuses_the_key_ends_the_run_at_the_first_new_question(tmp_path):
    server = Server()
    server.reply = lambda *_: (401, {"error": {"message": "bad key"}})
    config = LlmConfig(backend="openai", model="some-llm", base_url=server.url)
    backend = start_backend(config, LABELS, CacheConfig(path=str(tmp_path / "cache")))
    for _ in range(2):
        with pytest.raises(BackendError, match="refuses the key"):
            backend.ask([request("Ada")])
    assert len(server.bodies) == 1
    backend.close()
    server.close()


def test_a_model_that_is_not_there_is_found_out_although_no_engine_starts(tmp_path):
    config = LlmConfig(model=str(tmp_path / "nowhere"))
    with pytest.raises(StartupError, match=r"tokenizer of .*nowhere cannot be loaded"):
        start_backend(config, LABELS, CacheConfig(path=str(tmp_path / "cache")))


def test_a_cache_that_cannot_be_read_is_named_before_the_run(tmp_path, monkeypatch):
    def refuse(*_arguments, **_settings):
        raise PermissionError("no access")

    monkeypatch.setattr(CacheFolder, "list", refuse)
    server = Server()
    config = LlmConfig(backend="openai", model="some-llm", base_url=server.url)
    with pytest.raises(StartupError, match=r"answer cache .*l cannot be read: no access"):
        start_backend(config, LABELS, CacheConfig(path=str(tmp_path / "l")))
    server.close()
