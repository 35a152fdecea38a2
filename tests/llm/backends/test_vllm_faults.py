"""What the backend does when its engine misbehaves, on engines that do so on purpose.

`test_vllm_engine` kills and stops real ones. Nothing starts here, but vllm is imported.
"""

import asyncio
import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from linkner_ray.config import LlmConfig
from linkner_ray.errors import BackendError, StartupError
from linkner_ray.labels import Label, LabelSet
from linkner_ray.llm.backends.vllm_engine import VllmBackend
from linkner_ray.llm.context import Question
from linkner_ray.llm.prompts import PromptBuilder, Verdict
from tests.llm.tiny import tokenizer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of what vllm imports
]

LABELS = LabelSet(name="one", labels=(Label(id="PER", name="person", description="People."),))
PATIENCE = 0.2
AT_START = 4
"""Two questions, each with and without restrictions."""


@pytest.fixture(scope="module", autouse=True)
def environment():
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llm")
    tokenizer("chatml").save_pretrained(folder)
    return str(folder)


class Engine:
    """Replies to each prompt as `reply(text, number)` says.

    That is the log-probabilities of the first token, an error to raise, or None: it stays silent.
    """

    model_config = SimpleNamespace(max_model_len=512)
    num_cached = None

    def __init__(self, reply):
        self.reply = reply
        self.num_asked = self.num_held = self.most_held = 0
        self.is_shut = False

    async def generate(self, prompt, sampling, _name):
        self.num_asked += 1
        text = tokenizer("chatml").decode(prompt["prompt_token_ids"])
        reply = self.reply(text, self.num_asked)
        if reply is None:
            await asyncio.sleep(60)
        if isinstance(reply, Exception):
            raise reply
        self.symbol_ids = sampling.allowed_token_ids or self.symbol_ids
        first, second = self.symbol_ids
        replies = [SimpleNamespace(logprobs=reply(first, second))]
        yield SimpleNamespace(outputs=replies, num_cached_tokens=self.num_cached)

    def shutdown(self):
        self.is_shut = True


class SlowEngine(Engine):
    """Works on one request at a time, as long for each."""

    def __init__(self, seconds):
        super().__init__(lambda _text, _number: GOOD)
        self.seconds = seconds
        self.works = asyncio.Lock()

    async def generate(self, prompt, sampling, name):
        self.num_held += 1
        self.most_held = max(self.most_held, self.num_held)
        async with self.works:
            await asyncio.sleep(self.seconds)
        self.num_held -= 1
        async for output in super().generate(prompt, sampling, name):
            yield output


def entries(*probs):
    """Log-probabilities of the symbols."""
    return lambda *ids: [
        {i: SimpleNamespace(logprob=math.log(p)) for i, p in zip(ids, probs, strict=True)}
    ]


GOOD = entries(0.75, 0.25)


class FreeEngine(Engine):
    """Without restrictions it puts so much on each option."""

    def __init__(self, prob):
        super().__init__(lambda _text, _number: GOOD)
        self.prob = prob

    async def generate(self, prompt, sampling, name):
        self.reply = lambda *_: GOOD if sampling.allowed_token_ids else entries(*[self.prob] * 2)
        async for output in super().generate(prompt, sampling, name):
            yield output


def answers_all():
    return Engine(lambda _text, _number: GOOD)


def answers_only(count):
    """An engine that answers the first few requests, and none from then on."""
    return Engine(lambda _text, number: GOOD if number <= count else None)


class Backend(VllmBackend):
    """Gets its engines from a list; an error in it is raised instead."""

    def __init__(self, engines, model, **settings):
        self.engines = list(engines)
        self.num_built = 0
        self.num_told = 0
        config = LlmConfig(model=model, request_timeout_s=PATIENCE, **settings)
        super().__init__(config, LABELS, on_rebuild=self._told)

    def _told(self):
        self.num_told += 1

    async def _build(self):
        self.num_built += 1
        engine = self.engines[self.num_built - 1]
        if isinstance(engine, Exception):
            raise engine
        return engine


@pytest.fixture
def start(model):
    backends = []

    def start(*engines, **settings):
        backends.append(Backend(engines, model, **settings))
        backends[-1].start()
        return backends[-1]

    yield start
    for backend in backends:
        backend.close()


def requests(backend, *words):
    prompt_builder = PromptBuilder.for_label_set(
        LABELS, backend.symbols, model="tiny", decoding=backend.decoding
    )
    return [prompt_builder.request(Question(f"{w} met Ada.", 0, len(w))) for w in words]


WORDS = tuple(f"Nr{n}" for n in range(8))


def test_an_engine_that_falls_silent_is_replaced_and_one_request_is_given_up(start):
    silent, healthy = answers_only(AT_START), answers_all()
    backend = start(silent, healthy, max_in_flight=4)
    answers = backend.ask(requests(backend, *WORDS))
    verdicts = [answer.verdict for answer in answers]
    # whoever gave up first failed; the three that waited with it, and the rest, were asked anew
    assert verdicts.count(Verdict.FAILED) == 1
    assert verdicts.count(Verdict.LABEL) == 7
    assert (silent.is_shut, silent.num_asked, healthy.num_asked) == (True, AT_START + 4, 7)
    report = backend.describe()
    assert (report["engine_rebuilds"], report["engine_hangs"], report["failed_timeout"]) == (
        1,
        1,
        1,
    )
    assert backend.num_told == 1


def test_a_slow_engine_answers_all_though_its_queue_takes_longer_than_a_request_may(start):
    engine = SlowEngine(PATIENCE / 4)
    backend = start(engine, max_num_seqs=3)
    answers = backend.ask(requests(backend, *WORDS))
    assert max(answer.latency_s for answer in answers) > 1.5 * PATIENCE
    assert [answer.verdict for answer in answers] == [Verdict.LABEL] * 8
    assert engine.most_held == 6  # as many as it works on, and as many that are ready
    report = backend.describe()
    assert (report["engine_rebuilds"], report["engine_hangs"]) == (0, 0)


def test_engines_that_always_fall_silent_end_the_run(start):
    backend = start(
        answers_only(AT_START), *(answers_only(0) for _ in range(2)), max_engine_rebuilds=2
    )
    with pytest.raises(BackendError, match=r"died again after 2 rebuilds \(3 times .* = 0\.2\)"):
        backend.ask(requests(backend, *WORDS))
    assert backend.num_built == 3


def test_an_engine_that_answers_others_is_slow_and_kept(start):
    def reply(text, _number):
        return None if "Nr3" in text else GOOD

    backend = start(Engine(reply))
    (slow,) = requests(backend, "Nr3")

    async def both():
        """Ask about Nr3, and meanwhile about others until it is given up."""
        waiting = asyncio.create_task(backend._ask_one((slow, prompt_of(backend, slow))))
        await asyncio.sleep(PATIENCE / 2)
        (other,) = requests(backend, "Nr4")
        answer = await backend._ask_one((other, prompt_of(backend, other)))
        return await waiting, answer

    failed, answer = backend._loop.run(both())
    assert (failed.verdict, answer.verdict) == (Verdict.FAILED, Verdict.LABEL)
    report = backend.describe()
    assert (report["engine_rebuilds"], report["engine_hangs"], report["failed_timeout"]) == (
        0,
        0,
        1,
    )


def prompt_of(backend, request):
    return backend._encoder.encode(request.fixed_part, request.user_message)


def refuses(text, _number):
    from vllm.exceptions import VLLMValidationError

    return VLLMValidationError("longer than the context") if "Nr3" in text else GOOD


def replies(reply):
    return lambda text, _number: reply if "Nr3" in text else GOOD


@pytest.mark.parametrize(
    ("reply", "counter"),
    [
        (replies(lambda *_: None), "failed_empty_reply"),
        (replies(lambda *_: []), "failed_empty_reply"),
        (replies(lambda *_: [{}]), "failed_empty_reply"),
        (replies(entries(math.nan, math.nan)), "failed_empty_reply"),
        (refuses, "failed_rejected"),
    ],
    ids=["no log-probabilities", "no token", "no symbol", "not numbers", "refused"],
)
def test_an_empty_reply_or_a_refusal_fails_alone_and_is_counted(start, reply, counter):
    backend = start(Engine(reply))
    verdicts = [answer.verdict for answer in backend.ask(requests(backend, *WORDS))]
    assert verdicts == [Verdict.LABEL] * 3 + [Verdict.FAILED] + [Verdict.LABEL] * 4
    assert backend.describe()[counter] == 1


def test_a_request_during_which_engines_die_is_given_up_and_counted(start):
    from vllm.v1.engine.exceptions import EngineDeadError

    def dies_of_nr3(text, _number):
        return EngineDeadError() if "Nr3" in text else GOOD

    backend = start(*(Engine(dies_of_nr3) for _ in range(3)), max_span_crashes=2)
    verdicts = [answer.verdict for answer in backend.ask(requests(backend, *WORDS))]
    assert verdicts == [Verdict.LABEL] * 3 + [Verdict.FAILED] + [Verdict.LABEL] * 4
    report = backend.describe()
    assert (report["engine_rebuilds"], report["failed_engine_crash"]) == (2, 1)


def test_a_rebuild_that_fails_uses_up_one_of_those_allowed(start):
    from vllm.v1.engine.exceptions import EngineDeadError

    dead = Engine(lambda _text, number: GOOD if number <= AT_START else EngineDeadError())
    full = torch.OutOfMemoryError("no memory left")
    backend = start(dead, full, full, max_engine_rebuilds=2)
    with pytest.raises(BackendError, match="died again after 2 rebuilds"):
        backend.ask(requests(backend, *WORDS))
    assert (backend.num_built, backend.num_told) == (3, 2)


class Mute(Engine):
    async def generate(self, *_):
        yield SimpleNamespace(outputs=[], num_cached_tokens=None)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (torch.OutOfMemoryError("no memory"), r"(?s)no memory.*llm\.max_num_seqs"),
        (MemoryError("no memory"), r"(?s)no memory.*llm\.max_num_seqs"),
        (answers_only(0), "did not answer a first question: TimeoutError"),
        (Mute(None), "replied nothing to a first question"),
    ],
)
def test_an_engine_that_does_not_come_up_or_is_silent_is_a_start_up_error(start, engine, message):
    with pytest.raises(StartupError, match=message):
        start(engine)
    assert isinstance(engine, Exception) or engine.is_shut


def test_a_model_with_nothing_on_the_options_is_refused_and_one_with_little_is_not(start):
    with pytest.raises(StartupError, match=r"a probability of 0\.0002 lies on them"):
        start(FreeEngine(1e-4))
    found = start(FreeEngine(0.05)).describe()
    assert (found["start_option_mass"], found["start_right"]) == ("0.1", "1 of 2")


def test_replies_by_name_have_probabilities_and_little_on_the_names_is_told_and_allowed(
    start, caplog
):
    backend = start(FreeEngine(1e-4), answer_form="name")
    assert ", asked by name, puts a probability of 0.0002 on the options" in caplog.text
    assert backend.symbols == ("person", "non-entity")
    (answer,) = backend.ask(requests(backend, "Nr1"))
    assert (answer.label, answer.probs) == ("PER", pytest.approx((0.25, 0.75)))


def test_symbols_with_a_leading_space_count_as_mass_of_the_options(tmp_path):
    words = tokenizer("gemma")
    words.save_pretrained(tmp_path)
    [spaced, other] = words.convert_tokens_to_ids(["\u2581A", "z"])

    class SpacedEngine(Engine):
        async def generate(self, prompt, sampling, name):
            async for output in super().generate(prompt, sampling, name):
                if not sampling.allowed_token_ids:
                    reply = entries(0.1, 0.1, 0.4, 0.3)(*self.symbol_ids, spaced, other)
                    output.outputs[0].logprobs = reply
                yield output

    backend = Backend([SpacedEngine(lambda _text, _number: GOOD)], str(tmp_path))
    try:
        backend.start()
        assert backend.describe()["start_option_mass"] == "0.6"  # "A", "B" and " A"
    finally:
        backend.close()


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_gpu_without_bfloat16_is_told_before_an_engine_is_built(model, monkeypatch, has_bf16):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    Path(model, "config.json").write_text('{"model_type": "llama", "dtype": "bfloat16"}')
    Backend([], model, dtype="float16").close()
    if has_bf16:
        Backend([], model).close()
    else:
        with pytest.raises(StartupError, match=r"Tesla T4.*set llm\.dtype = float16"):
            Backend([], model)


def test_tokens_of_the_prefix_cache_are_not_computed_and_the_start_does_not_count(start):
    engine = answers_all()
    engine.num_cached = 30
    backend = start(engine)
    assert backend.describe()["prompt_tokens_computed"] == 0
    answers = backend.ask(requests(backend, *WORDS))
    tokens = sum(answer.prompt_tokens for answer in answers)
    assert backend.describe()["prompt_tokens_computed"] == tokens - 8 * 30 > 0


def test_no_engine_is_built_before_the_first_question(model):
    backend = Backend([answers_all()], model)
    try:
        assert backend.symbols
        assert backend.ask([]) == []
        assert (backend.num_built, backend.describe()["engine"]) == (0, "not started")
        assert [answer.label for answer in backend.ask(requests(backend, *WORDS))] == ["PER"] * 8
        backend.ask(requests(backend, "Nr9"))
        assert backend.num_built == 1
        assert backend.describe()["engine"].startswith("vllm ")
    finally:
        backend.close()


def test_a_model_that_changed_before_its_engine_came_up_is_not_asked(tmp_path):
    tokenizer("chatml").save_pretrained(tmp_path)
    engine = answers_all()
    backend = Backend([engine], str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(StartupError, match="files of the model changed"):
        backend.ask(requests(backend, "Nr1"))
    assert (engine.num_asked, engine.is_shut) == (0, True)
