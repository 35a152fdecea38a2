"""A real engine on the demo's LLM. Starting one takes long, so most tests share it."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psutil
import pytest

from examples.demo import OWN_LLM
from examples.demo.llm_model import page_exercises
from linkner_ray.config import LlmConfig
from linkner_ray.errors import BackendError, StartupError
from linkner_ray.labels import Label, LabelSet, load_label_set
from linkner_ray.llm.backends import start_backend
from linkner_ray.llm.backends.engine_start import ENGINE_LOGGER
from linkner_ray.llm.backends.vllm_engine import VllmBackend
from linkner_ray.llm.context import Question
from linkner_ray.llm.prompts import PromptBuilder, Verdict
from tests.llm.tiny import save_llm

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of what vllm imports
]

POISON = "POISON"

LABELS = load_label_set("demo")


@pytest.fixture(scope="module", autouse=True)
def environment():
    """A backend sets environment variables; the next module should not see them."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def config():
    return LlmConfig(
        model=str(OWN_LLM), dtype="float32", enforce_eager=True, kv_cache_bytes=64 * 2**20,
        max_in_flight=32, max_model_len=512,
    )  # fmt: skip


@pytest.fixture(scope="module")
def backend(config):
    backend = start_backend(config, LABELS)
    yield backend
    backend.close()


def requests(backend, numbers):
    questions = [Question(f"No. {n} met Ada in Paris {n * n} times.", 0, 4) for n in numbers]
    return requests_for(backend, questions)


def requests_for(backend, questions):
    prompt_builder = PromptBuilder.for_label_set(
        LABELS, backend.symbols, model="demo", decoding=backend.decoding
    )
    return [prompt_builder.request(question) for question in questions]


def test_the_engine_names_what_its_model_has_learnt(backend):
    exercises = page_exercises()[:100]
    answers = backend.ask(requests_for(backend, [exercise.question for exercise in exercises]))
    given = [answer.label or "O" for answer in answers]
    # 0.89 on all of them, see its card; another prompt than the one it learnt gives about a third
    assert sum(map(str.__eq__, given, [exercise.class_id for exercise in exercises])) >= 80


def test_every_answer_is_a_distribution_and_asking_again_gives_the_same(backend):
    asked = requests(backend, range(50))
    before = backend.describe()["prompt_tokens_computed"]
    answers = backend.ask(asked)
    computed = backend.describe()["prompt_tokens_computed"] - before
    assert 0 < computed <= sum(answer.prompt_tokens for answer in answers)
    assert [answer.key for answer in answers] == [request.key for request in asked]
    for answer in answers:
        assert sum(answer.probs) == pytest.approx(1.0, abs=1e-3)
        assert len(answer.probs) == len(LABELS.classes)
        best = max(range(5), key=answer.probs.__getitem__)
        assert (answer.label or "O") == LABELS.classes[best]
        assert 30 < answer.prompt_tokens < 100
    again = backend.ask(asked)
    assert [a.verdict for a in again] == [a.verdict for a in answers]
    assert [a.label for a in again] == [a.label for a in answers]


def test_a_prompt_that_is_too_long_fails_alone(backend):
    short, other = requests(backend, [1, 2])
    long = requests(backend, [10**600])[0]
    verdicts = [answer.verdict for answer in backend.ask([short, long, other])]
    assert verdicts[1] is Verdict.FAILED
    assert Verdict.FAILED not in (verdicts[0], verdicts[2])
    assert backend.describe()["failed_prompt_too_long"] >= 1


def test_threads_ask_one_engine_at_once_and_each_gets_its_own_answers(backend):
    parts = [requests(backend, range(n, n + 40)) for n in (0, 20, 40)]
    alone = [[answer.probs for answer in backend.ask(part)] for part in parts]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(backend.ask, parts))
    for answers, asked, expected in zip(together, parts, alone, strict=True):
        assert [answer.key for answer in answers] == [request.key for request in asked]
        for answer, probs in zip(answers, expected, strict=True):
            assert answer.probs == pytest.approx(probs, abs=1e-3)


def youngest_engine():
    children = psutil.Process().children(recursive=True)
    engines = [child for child in children if child.name().startswith("VLLM::EngineCor")]
    return max(engines, key=psutil.Process.create_time)


class PoisonedBackend(VllmBackend):
    """Its engine is killed whenever it is asked about the word POISON, as if out of memory."""

    async def _generate(self, engine, prompt, **how):
        if POISON in self._encoder._tokenizer.decode(prompt):
            youngest_engine().kill()
        return await super()._generate(engine, prompt, **how)


@pytest.mark.soak
def test_a_request_that_kills_engines_fails_alone_and_past_the_bound_the_run_stops(config, caplog):
    backend = PoisonedBackend(config.model_copy(update={"max_engine_rebuilds": 2}), LABELS)
    try:
        backend.start()
        # not before: vllm's import takes handlers away
        logging.getLogger(ENGINE_LOGGER).addHandler(caplog.handler)
        asked = requests(backend, range(40))
        asked[7] = replace(asked[7], question=Question(f"{POISON} met Ada.", 0, 6))
        answers = backend.ask(asked)
        assert [answer.key for answer in answers] == [request.key for request in asked]
        failed = [n for n, answer in enumerate(answers) if answer.verdict is Verdict.FAILED]
        # given up after it killed two engines; its 31 companions of the first time are answered
        assert failed == [7]
        report = backend.describe()
        assert (report["engine_rebuilds"], report["failed_engine_crash"]) == (2, 1)
        with pytest.raises(BackendError, match="died again after 2 rebuilds") as caught:
            backend.ask(asked)
        assert not caught.value.retryable
        # said once, and not with vLLM's traceback
        assert caplog.text.count("vLLM engine died") == 2
        assert "EngineDeadError" not in caplog.text
    finally:
        backend.close()
        logging.getLogger(ENGINE_LOGGER).removeHandler(caplog.handler)


@pytest.mark.soak
def test_where_symbols_run_out_the_engine_picks_among_names(config, tmp_path):
    # 60 labels and non-entity are more than 52 letters or 9 digits
    many = LabelSet(
        name="many",
        labels=tuple(
            Label(id=f"L{n}", name=f"kind {n} of (thing)", description="x") for n in range(60)
        ),
    )
    longer = config.model_copy(
        update={"model": save_llm(tmp_path, context=4096), "max_model_len": 4096}
    )
    backend = start_backend(longer, many)
    try:
        assert backend.symbols == ()
        prompt_builder = PromptBuilder.for_label_set(
            many, (), model=longer.model, decoding=backend.decoding
        )
        asked = [prompt_builder.request(Question(f"Ada {n}.", 0, 3)) for n in range(12)]
        answers = backend.ask(asked)
        assert [answer.key for answer in answers] == [request.key for request in asked]
        # a random model: it says anything, but nothing that is not on offer
        assert {answer.verdict for answer in answers} <= {Verdict.LABEL, Verdict.NON_ENTITY}
        assert all(answer.probs is None for answer in answers)
        assert [a.label for a in backend.ask(asked)] == [a.label for a in answers]
        assert backend.describe().get("failed_rejected", 0) == 0
    finally:
        backend.close()


class StoppedBackend(VllmBackend):
    """Its first engine stops for good, without dying, when it is asked about the word POISON."""

    is_stopped = False

    async def _generate(self, engine, prompt, **how):
        if not self.is_stopped and POISON in self._encoder._tokenizer.decode(prompt):
            self.is_stopped = True
            youngest_engine().suspend()
        return await super()._generate(engine, prompt, **how)


@pytest.mark.soak
def test_an_engine_that_hangs_is_replaced_and_its_requests_are_asked_again(config):
    backend = StoppedBackend(config.model_copy(update={"request_timeout_s": 20.0}), LABELS)
    try:
        asked = requests(backend, range(20))
        asked[0] = replace(asked[0], question=Question(f"{POISON} met Ada.", 0, 6))
        answers = backend.ask(asked)
        assert [answer.key for answer in answers] == [request.key for request in asked]
        # whichever was given up first; all others were asked again
        assert [answer.verdict for answer in answers].count(Verdict.FAILED) == 1
        report = backend.describe()
        assert (report["engine_rebuilds"], report["engine_hangs"]) == (1, 1)
        assert report["failed_timeout"] == 1
    finally:
        backend.close()


def test_too_little_memory_at_the_start_is_a_start_up_error_that_says_what_to_do(config):
    # 3 layers of 128 floats each for key and value: 3 KiB a token, 1.5 MiB for the whole context
    small = config.model_copy(update={"kv_cache_bytes": 2**20})
    with pytest.raises(StartupError, match=r"(?s)vLLM could not load.*llm\.kv_cache_bytes"):
        start_backend(small, LABELS)
