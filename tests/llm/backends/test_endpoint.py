"""The client against a real HTTP server on this machine that misbehaves on purpose."""

import threading
import time

import pytest

from linkner_ray.config import LlmConfig
from linkner_ray.errors import BackendError, StartupError
from linkner_ray.llm.backends import start_backend
from linkner_ray.llm.context import Question
from linkner_ray.llm.prompts import PromptBuilder, Verdict
from tests.endpoint_server import GOOD, Server, completion
from tests.llm.caches import LABELS

AT_START = 3
"""Questions whose answers are known: a person, an organization, none of both."""


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def start(server, monkeypatch):
    """Start a backend on the server with the given settings; closed after the test."""
    monkeypatch.setenv("LLM_KEY", "secret-key")
    backends = []

    def start(**settings):
        config = LlmConfig(
            backend="openai", model="some-llm", base_url=server.url, api_key_env="LLM_KEY",
            **{"max_retries": 1, **settings},
        )  # fmt: skip
        backends.append(start_backend(config, LABELS))
        return backends[-1]

    yield start
    for backend in backends:
        backend.close()


def requests(backend, count=1):
    prompt_builder = PromptBuilder.for_label_set(
        LABELS, backend.symbols, model="some-llm", decoding=backend.decoding
    )
    return [prompt_builder.request(Question(f"Ada {n}", 0, 3)) for n in range(count)]


def test_a_closed_question_is_asked_and_read_as_a_distribution(server, start):
    backend = start()
    (request,) = requests(backend)
    (answer,) = backend.ask([request])
    assert (answer.verdict, answer.label) == (Verdict.LABEL, "PER")
    # C is non-entity, which comes first; " B" counts as B
    assert answer.probs == pytest.approx((0.1, 0.6, 0.3))
    assert (answer.key, answer.prompt_tokens) == (request.key, 42)
    assert server.keys[-1] == "Bearer secret-key"
    assert server.bodies[-1] == {
        "model": "some-llm",
        "messages": [{"role": role, "content": text} for role, text in request.messages],
        "max_tokens": 1,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": 6,
    }


def test_requests_run_at_once_but_no_more_than_allowed(server, start):
    backend = start(max_in_flight=4)

    def slow(_number, body):
        time.sleep(0.05)
        name = body["messages"][1]["content"]
        return 200, completion("A" if "Ada 3\n" in name else "B")

    server.reply = slow
    answers = backend.ask(requests(backend, 12))
    assert server.most_busy == 4
    assert [answer.label for answer in answers] == ["ORG"] * 3 + ["PER"] + ["ORG"] * 8


@pytest.mark.parametrize("status", [408, 429, 500, 503, None])
def test_a_passing_fault_or_a_lost_connection_is_tried_again(server, start, status):
    backend = start()
    server.reply = lambda number, _: (status, {"error": "busy"}) if number == AT_START else GOOD
    (answer,) = backend.ask(requests(backend))
    assert answer.verdict is Verdict.LABEL
    assert len(server.bodies) == AT_START + 2  # the fault, the second try


@pytest.mark.parametrize(
    ("status", "body", "tries", "reason"),
    [
        (500, {"error": "broken"}, 3, "overloaded"),
        (None, None, 3, "unreachable"),
        (400, {"error": "too long"}, 1, "rejected"),
        (200, b"<html>", 1, "malformed_reply"),
        (200, b"", 1, "malformed_reply"),
        (200, b"\xff", 1, "malformed_reply"),
        (200, {}, 1, "malformed_reply"),
        (200, {"choices": []}, 1, "malformed_reply"),
        (200, {"choices": [{"message": 3}]}, 1, "malformed_reply"),
    ],
)
def test_a_fault_that_stays_fails_after_the_last_try_and_is_counted(
    server, start, status, body, tries, reason
):
    backend = start(max_retries=2)
    server.reply = lambda _number, _body: (status, body)
    (answer,) = backend.ask(requests(backend))
    assert answer.verdict is Verdict.FAILED
    assert len(server.bodies) == AT_START + tries
    assert backend.describe()[f"failed_{reason}"] == 1


def test_a_slow_reply_fails_alone(server, start):
    backend = start(request_timeout_s=0.5, max_retries=0)

    def reply(_number, body):
        if "Ada 1\n" in body["messages"][1]["content"]:
            time.sleep(0.9)
        return GOOD

    server.reply = reply
    verdicts = [answer.verdict for answer in backend.ask(requests(backend, 3))]
    assert verdicts == [Verdict.LABEL, Verdict.FAILED, Verdict.LABEL]
    assert backend.describe()["failed_timeout"] == 1


def test_a_server_whose_queue_takes_longer_than_a_request_may_answers_all(server, start):
    backend = start(request_timeout_s=1.5, max_retries=0)

    def reply(number, _body):
        time.sleep(0.25 * (number - AT_START + 1))
        return GOOD

    server.reply = reply
    answers = backend.ask(requests(backend, 8))
    assert max(answer.latency_s for answer in answers) > 1.5
    assert {answer.verdict for answer in answers} == {Verdict.LABEL}


def test_a_silent_server_fails_all_that_wait_for_it_at_once(server, start):
    backend = start(request_timeout_s=0.2, max_retries=0)
    is_over = threading.Event()

    def reply(_number, _body):
        is_over.wait()
        return GOOD

    server.reply = reply
    started = time.monotonic()
    answers = backend.ask(requests(backend, 20))
    assert time.monotonic() - started < 2.0  # one limit, and not twenty
    assert {answer.verdict for answer in answers} == {Verdict.FAILED}
    is_over.set()


@pytest.mark.parametrize(
    ("status", "message"), [(401, "LLM_KEY"), (403, "LLM_KEY"), (404, "llm.base_url and llm.model")]
)
def test_a_refused_key_or_unknown_model_stops_at_once(server, start, status, message):
    backend = start()
    server.reply = lambda _number, _body: (status, {"error": "no"})
    with pytest.raises(BackendError, match=message) as caught:
        backend.ask(requests(backend, 3))
    assert not caught.value.retryable
    assert server.url in str(caught.value)
    assert "some-llm" in str(caught.value)
    assert "secret-key" not in str(caught.value)


def test_a_refused_key_is_found_at_the_start(server, start):
    server.reply = lambda _number, _body: (401, {"error": "no"})
    with pytest.raises(BackendError, match="refuses the key"):
        start()


@pytest.mark.parametrize(
    ("reply", "verdict", "label"),
    [
        (completion("B"), Verdict.LABEL, "ORG"),
        (completion("C", None), Verdict.NON_ENTITY, None),
        (completion("The"), Verdict.UNREADABLE, None),
        (completion("The", {"The": 0.9, "A": 0.1}), Verdict.UNREADABLE, None),
        (completion("Person", {"Person": 0.9, "A": 0.1}), Verdict.LABEL, "PER"),
        ({"choices": [{"message": {"content": None}}]}, Verdict.UNREADABLE, None),
    ],
)
def test_without_probabilities_of_the_symbols_the_text_is_read(
    server, start, reply, verdict, label
):
    backend = start()
    server.reply = lambda _number, _body: (200, reply)
    (answer,) = backend.ask(requests(backend))
    assert (answer.verdict, answer.label, answer.probs) == (verdict, label, None)


def test_a_server_that_refuses_logprobs_is_asked_without(server, start):
    def reply(_number, body):
        if "logprobs" in body:
            return 400, {"error": "logprobs are not supported"}
        return 200, completion("B")

    server.reply = reply
    backend = start()
    (answer,) = backend.ask(requests(backend))
    assert answer.label == "ORG"
    assert ["logprobs" in body for body in server.bodies] == [True] + [False] * (AT_START + 1)
    assert not any(key.startswith("failed") for key in backend.describe())


def thinks(body):
    """Reply of a model that thinks first, where its template is not told otherwise."""
    settings = body.get("chat_template_kwargs", {"enable_thinking": True})
    if settings["enable_thinking"]:
        return 200, completion("<think>", {"<think>": 0.9999, "A": 0.0001})
    return GOOD


def test_thinking_is_switched_off_where_the_template_has_a_switch(server, start):
    server.reply = lambda _number, body: thinks(body)
    backend = start()
    assert {answer.label for answer in backend.ask(requests(backend, 3))} == {"PER"}
    found = backend.describe()
    assert (found["start_option_mass"], found["start_right"]) == ("1", "1 of 3")


@pytest.mark.parametrize("can_refuse", [True, False])
def test_a_model_that_thinks_whatever_it_is_told_is_refused(server, start, can_refuse):
    def reply(_number, body):
        if can_refuse and "chat_template_kwargs" in body:
            return 400, {"error": "unknown field"}
        return thinks({})

    server.reply = reply
    with pytest.raises(StartupError, match=r"3 of 3 answers .* none of the options.* thinking off"):
        start()


def test_a_model_that_is_merely_wrong_may_start_and_the_log_says_how_it_does(server, start, caplog):
    caplog.set_level("INFO", logger="linkner_ray")
    server.reply = lambda _number, _body: (200, completion("B", {"B": 0.6, "The": 0.4}))
    start()
    assert "puts a probability of 0.6 on the options it is offered" in caplog.text
    assert "is right in 1 of 3 questions" in caplog.text


def test_a_server_that_is_not_there_is_a_start_up_error():
    config = LlmConfig(
        backend="openai", model="some-llm", base_url="http://127.0.0.1:9/v1", max_retries=0
    )
    with pytest.raises(StartupError, match=r"127\.0\.0\.1:9.*unreachable.*is the server running"):
        start_backend(config, LABELS)


def test_a_server_with_an_empty_list_of_probabilities_is_read_as_one_without(server, start):
    reply = completion("A")
    reply["choices"][0]["logprobs"] = {"content": []}
    server.reply = lambda _number, _body: (200, reply)
    found = start().describe()
    assert (found["start_option_mass"], found["start_right"]) == ("1", "1 of 3")


def test_without_a_key_a_placeholder_is_sent(server, start, monkeypatch):
    monkeypatch.delenv("LLM_KEY", raising=False)
    start()
    assert set(server.keys) == {"Bearer EMPTY"}
