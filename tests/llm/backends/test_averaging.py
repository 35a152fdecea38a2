import pytest

from linkner_ray.config import LlmConfig
from linkner_ray.llm.backends import start_backend
from linkner_ray.llm.backends.averaging import AveragingBackend, average_answers
from linkner_ray.llm.context import Question
from linkner_ray.llm.prompts import Answer, PromptBuilder, Verdict, read_probs
from tests.endpoint_server import Server
from tests.fakes import ScriptedBackend
from tests.llm.caches import LABELS

CONFIG = LlmConfig(
    backend="openai", model="some-llm", base_url="http://nowhere",
    option_order="rotations", num_option_orders=3,
)  # fmt: skip


class Biased:
    """Gives each symbol a weight of its own, whatever it stands for, and counts its questions."""

    symbols = ("A", "B", "C")
    decoding = "biased"

    def __init__(self, *weights):
        self.weights = dict(zip(self.symbols, weights, strict=True))
        self.asked = []

    def ask(self, requests):
        self.asked += requests
        return [
            read_probs(request, self.weights, prompt_tokens=10 + place)
            for place, request in enumerate(requests)
        ]


def request_of(words="Ada met Bo.", *, symbols=("A", "B", "C")):
    prompt_builder = PromptBuilder.from_config(CONFIG, LABELS, symbols, decoding="some")
    return prompt_builder.request(Question(words, 0, 3))


def test_the_options_of_the_variants_go_round_behind_the_same_symbols():
    request = request_of()
    assert [variant.options for variant in request.variants] == [
        (("A", "PER"), ("B", "ORG"), ("C", "O")),
        (("A", "ORG"), ("B", "O"), ("C", "PER")),
        (("A", "O"), ("B", "PER"), ("C", "ORG")),
    ]
    assert "A. organization: Names of groups.\nB. non-entity" in request.variants[1].fixed_part


def test_the_mean_is_of_classes_and_not_of_symbols():
    def script(request):
        first = request.options[0][1]
        return {
            "PER": {"PER": 0.6, "ORG": 0.3, "O": 0.1},
            "ORG": {"PER": 0.1, "ORG": 0.8, "O": 0.1},
            "O": {"PER": 0.5, "ORG": 0.1, "O": 0.4},
        }[first]

    backend = AveragingBackend(ScriptedBackend(LABELS, script))
    request = request_of()
    (answer,) = backend.ask([request])
    # thirds of: 0.1 + 0.1 + 0.4 for O, 0.6 + 0.1 + 0.5 for PER, 0.3 + 0.8 + 0.1 for ORG
    assert answer.probs == pytest.approx((0.2, 0.4, 0.4))
    assert (answer.verdict, answer.key) == (Verdict.LABEL, request.key)


def test_the_verdict_follows_the_mean_although_most_variants_say_otherwise():
    request = request_of()
    one, two, three = (
        read_probs(variant, {symbol_of(variant, "PER"): a, symbol_of(variant, "O"): 1 - a})
        for variant, a in zip(request.variants, (0.45, 0.45, 0.9), strict=True)
    )
    # a third of 0.45 + 0.45 + 0.9 for PER
    answer = average_answers(request, [one, two, three])
    assert (answer.label, answer.probs) == ("PER", pytest.approx((0.4, 0.6, 0.0)))


def symbol_of(request, class_id):
    return next(symbol for symbol, found in request.options if found == class_id)


def answers_of(*verdicts):
    return [
        Answer(verdict=Verdict(verdict), label=label, key="part", prompt_tokens=None)
        for verdict, label in verdicts
    ]


@pytest.mark.parametrize(
    ("answers", "verdict", "label"),
    [
        ([("label", "PER"), ("label", "ORG"), ("label", "ORG")], Verdict.LABEL, "ORG"),
        ([("label", "PER"), ("non_entity", None), ("unreadable", None)], Verdict.LABEL, "PER"),
        ([("unreadable", None)] * 2 + [("label", "PER")], Verdict.UNREADABLE, None),
        ([("label", "PER")] * 2 + [("failed", None)], Verdict.FAILED, None),
    ],
)
def test_without_probabilities_the_most_frequent_answer_wins(answers, verdict, label):
    request = request_of()
    answer = average_answers(request, answers_of(*answers))
    assert answer == Answer(verdict=verdict, label=label, key=request.key)


def test_requests_with_and_without_variants_keep_their_places():
    inner = Biased(0.5, 0.3, 0.2)
    plain = PromptBuilder.for_label_set(LABELS, inner.symbols, model="m", decoding="d").request(
        Question("x", 0, 1)
    )
    asked = [request_of(), plain, request_of("Bo met Ada.")]
    answers = AveragingBackend(inner).ask(asked)
    assert [answer.key for answer in answers] == [request.key for request in asked]
    assert len(inner.asked) == 3 + 1 + 3


def test_the_key_covers_the_number_of_orders():
    fewer = CONFIG.model_copy(update={"num_option_orders": 2})
    request = PromptBuilder.from_config(fewer, LABELS, "ABC", decoding="some").request(
        Question("Ada met Bo.", 0, 3)
    )
    whole = request_of()
    keys = {whole.key, request.key, *(variant.key for variant in whole.variants)}
    assert len(keys) == 5


def test_an_endpoint_is_asked_in_every_order_and_its_tokens_are_added_up():
    server = Server()
    try:
        backend = start_backend(CONFIG.model_copy(update={"base_url": server.url}), LABELS)
        (answer,) = backend.ask([request_of()])
        backend.close()
        # the server weighs A 0.6, B 0.3, C 0.1, whatever stands behind them
        assert answer.probs == pytest.approx((1 / 3, 1 / 3, 1 / 3))
        assert answer.prompt_tokens == 3 * 42
        systems = [body["messages"][0]["content"] for body in server.bodies[-3:]]
        assert len(set(systems)) == 3
    finally:
        server.close()
