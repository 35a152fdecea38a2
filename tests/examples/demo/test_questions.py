from collections import Counter
from itertools import islice

import pytest

from examples.demo.names import load_gazetteer
from examples.demo.questions import ask, stream_exercises
from linkner_ray.labels import NON_ENTITY, load_label_set

USES = ("train", "llm")


@pytest.fixture(scope="module")
def exercises():
    return list(islice(stream_exercises(USES, seed=0, noisy=True), 1500))


def test_classes_are_those_of_the_label_set(exercises):
    counts = Counter(exercise.class_id for exercise in exercises)
    assert set(counts) == set(load_label_set("demo").classes)
    assert 0.25 < counts[NON_ENTITY] / len(exercises) < 0.55


def test_an_entity_is_asked_about_with_its_right_boundaries(exercises):
    names = set(load_gazetteer(0).splits)
    spans = {e.question.span for e in exercises if e.class_id != NON_ENTITY}
    assert {span.replace("\u2019", "'") for span in spans} <= names


def test_the_llm_learns_names_the_local_model_is_never_shown(exercises):
    spans = {e.question.span for e in exercises if e.class_id != NON_ENTITY}
    assert len(spans & load_gazetteer(0).held_out()) > 50


def test_non_entities_include_parts_of_names(exercises):
    spans = {e.question.span for e in exercises if e.class_id == NON_ENTITY}
    first_words = {name.split()[0] for name in load_gazetteer(0).splits if " " in name}
    assert spans & first_words


def test_equal_seeds_ask_equal_questions(exercises):
    again = list(islice(stream_exercises(USES, seed=0, noisy=True), 100))
    assert again == exercises[:100]


def test_a_question_shows_the_sentence_and_nothing_else():
    question = ask("Ada met Bob.", (8, 11))
    assert question.context == "Ada met Bob."
    assert question.span == "Bob"
