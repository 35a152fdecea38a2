from dataclasses import replace

import pytest

from linkner_ray.errors import ConfigError
from linkner_ray.labels import Label, LabelSet
from linkner_ray.llm.context import Question
from linkner_ray.llm.prompts import (
    PromptBuilder,
    Verdict,
    choose_symbols,
    class_names,
    read_probs,
    read_text,
    render_question,
)
from tests.llm.caches import LABELS

NAMES = class_names(LABELS)


@pytest.fixture
def prompt_builder():
    return PromptBuilder.for_label_set(
        LABELS, ("A", "B", "C"), model="some-llm", decoding="one token"
    )


@pytest.fixture
def request_(prompt_builder):
    return prompt_builder.request(Question("Ada met Bo.", 8, 10))


def test_the_key_names_the_recipe_and_is_the_same_for_the_same_request(prompt_builder, request_):
    again = prompt_builder.request(Question("Ada met Bo.", 8, 10))
    assert again.key == request_.key
    assert request_.key.startswith("k1:")
    assert len(request_.key) == len("k1:") + 32


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other-llm"},
        {"revision": "v2"},
        {"fixed_part": "Other instructions."},
        {"question": Question("Ada met Bo!", 8, 10)},
        {"question": Question("Ada met Bo.", 0, 3)},
        {"options": (("A", "ORG"), ("B", "PER"), ("C", "O"))},
        {"decoding": "sampled"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_can_change_the_reply_changes_the_key(request_, change):
    assert replace(request_, **change).key != request_.key


def test_probabilities_come_in_the_order_of_the_classes_non_entity_first(request_):
    answer = read_probs(request_, {"A": 0.1, "B": 0.3, "C": 0.1}, prompt_tokens=7)
    # divided by 0.5: PER 0.2, ORG 0.6, non-entity 0.2
    assert answer.probs == pytest.approx((0.2, 0.2, 0.6))
    assert (answer.verdict, answer.label) == (Verdict.LABEL, "ORG")
    assert (answer.key, answer.source, answer.prompt_tokens) == (request_.key, "llm", 7)


def test_the_most_probable_non_entity_is_a_verdict_without_a_label(request_):
    answer = read_probs(request_, {"C": 1.0})
    assert (answer.verdict, answer.label) == (Verdict.NON_ENTITY, None)
    assert answer.probs == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_an_llm_that_computes_no_number_has_not_answered(request_, weight):
    answer = read_probs(request_, {"A": 0.5, "B": weight})
    assert (answer.verdict, answer.label, answer.probs) == (Verdict.FAILED, None, None)


@pytest.mark.parametrize(
    ("reply", "verdict", "label"),
    [
        ("A", Verdict.LABEL, "PER"),
        (" B.\n", Verdict.LABEL, "ORG"),
        ("(C)", Verdict.NON_ENTITY, None),
        ("Person", Verdict.LABEL, "PER"),
        ('"per"', Verdict.LABEL, "PER"),
        ("Non-entity.", Verdict.NON_ENTITY, None),
        ("O", Verdict.NON_ENTITY, None),
        ("not a person", Verdict.UNREADABLE, None),
        ("A person", Verdict.UNREADABLE, None),
        ("a", Verdict.UNREADABLE, None),
        ("D", Verdict.UNREADABLE, None),
        ("", Verdict.UNREADABLE, None),
    ],
)
def test_a_written_reply_has_to_be_one_option_alone(request_, reply, verdict, label):
    answer = read_text(request_, reply, NAMES)
    assert (answer.verdict, answer.label, answer.probs) == (verdict, label, None)


def test_a_symbol_wins_over_a_label_id_that_looks_like_it():
    labels = LabelSet(
        name="letters",
        labels=(
            Label(id="B", name="beta", description="Beta."),
            Label(id="A", name="alpha", description="Alpha."),
        ),
    )
    request = PromptBuilder.for_label_set(
        labels, ("A", "B", "C"), model="some-llm", decoding="one token"
    ).request(Question("x", 0, 1))
    assert read_text(request, "B", class_names(labels)).label == "A"


def test_more_than_26_options_go_on_with_small_letters_and_more_than_52_are_refused():
    assert choose_symbols(28)[25:] == ("Z", "a", "b")
    with pytest.raises(ConfigError, match=r"53 options .* do not fit 52 symbols"):
        choose_symbols(53)


def test_the_same_options_of_a_set_in_another_order_are_another_request(prompt_builder):
    request = prompt_builder.request(Question("Ada", 0, 3))
    assert replace(request, classes=("O", "ORG", "PER")).key != request.key
    # what is the default anyway is not part of the name
    assert replace(request, classes=()).key == request.key


def test_where_names_are_offered_alone_the_reply_is_a_name():
    labels = LabelSet(
        name="odd", labels=(Label(id="L", name="language (spoken)", description="Languages."),)
    )
    request = PromptBuilder.for_label_set(labels, (), model="m", decoding="d").request(
        Question("x", 0, 1)
    )
    assert request.options == (("language (spoken)", "L"), ("non-entity", "O"))
    assert "- language (spoken): Languages.\n- non-entity: " in request.fixed_part
    assert "Reply with the name of one option" in request.fixed_part
    assert read_text(request, "language (spoken)", class_names(labels)).label == "L"


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (Question("see [Ada], Ada", 5, 8), "see [ [[Ada]] ], Ada\n\nWhat is [[Ada]]"),
        (Question("see [Ada] now", 4, 9), "see [Ada] now\n\nWhat is [[ [Ada] ]]"),
        (Question("[] []", 0, 2), "[[ [] ]] []\n\nWhat is [[ [] ]]"),
    ],
)
def test_a_bracket_beside_a_mark_is_set_apart_from_it(question, message):
    assert render_question(question) == f"Text:\n{message} in this text?"


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (Question("Ada met Bo.", 0, 3), "Ada met Bo."),
        (Question("Ada met Adam.", 0, 3), "[[Ada]] met Adam."),
        (Question("Ada met Ada.", 8, 11), "Ada met [[Ada]]."),
        (Question("anana", 2, 5), "an[[ana]]"),  # the other one overlaps it
    ],
)
def test_only_words_that_stand_in_several_places_are_marked_in_the_text(question, text):
    asked = f"What is [[{question.span}]] in this text?"
    assert render_question(question) == f"Text:\n{text}\n\n{asked}"
