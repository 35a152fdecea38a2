import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.llm.demonstrations import (
    ExampleSentence,
    NearestDemonstrations,
    RandomDemonstrations,
    non_entity_spans,
)

CLASSES = ("O", "PER", "LOC")

NAMES = {"Ada": "PER", "Bo": "PER", "Hu": "PER", "Paris": "LOC", "Rome": "LOC", "Bonn": "LOC"}
VERBS = ("visited", "left", "reached", "praised")


def sentence(text, **labels):
    """An example; tokens are divided by spaces, and every name in it is an entity."""
    tokens, start = [], 0
    for word in text.split(" "):
        tokens.append((start, start + len(word)))
        start += len(word) + 1
    entities = tuple(
        (a, b, (NAMES | labels)[text[a:b]]) for a, b in tokens if text[a:b] in NAMES | labels
    )
    return ExampleSentence(text, tuple(tokens), entities)


CORPUS = [
    sentence(f"{who} {verb} {where} on a Monday with friends .")
    for who in ("Ada", "Bo", "Hu")
    for verb in VERBS
    for where in ("Paris", "Rome", "Bonn")
]
WORDS = sorted({word for example in CORPUS for word in example.text.split()})


def embed(texts):
    """Counts of words, scaled to length 1."""
    counts = np.array([[text.split().count(word) for word in WORDS] for text in texts], np.float32)
    return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def random_ones(corpus=CORPUS, *, per_class=2, seed=0):
    return RandomDemonstrations(corpus, CLASSES, per_class=per_class, seed=seed, max_chars=500)


def nearest_ones(corpus=CORPUS, *, count=3, seed=0):
    return NearestDemonstrations(corpus, embed, count=count, seed=seed, max_chars=500)


def contexts(demonstrations):
    return [demonstration.question.context for demonstration in demonstrations]


def test_every_class_is_shown_as_often_as_wanted_non_entity_among_them():
    (shown,) = random_ones(per_class=3).choose(["Something else ."])
    classes = [demonstration.class_id for demonstration in shown.fixed]
    assert {name: classes.count(name) for name in CLASSES} == {"O": 3, "PER": 3, "LOC": 3}
    assert len(set(contexts(shown.fixed))) == 9
    # not class after class, or the model would learn which comes last
    assert classes != sorted(classes)
    assert not shown.near


def test_the_answers_shown_are_gold_and_a_non_entity_is_no_gold_span():
    gold = {
        (example.text, start, end): label
        for example in CORPUS
        for start, end, label in example.entities
    }
    for chooser in (random_ones(per_class=8), nearest_ones(count=20)):
        (shown,) = chooser.choose(["Ada met Hu ."])
        for question, class_id in (*shown.fixed, *shown.near):
            assert gold.get((question.context, question.start, question.end), "O") == class_id


def test_nearly_all_questions_share_the_fixed_ones_and_the_seed_decides_them():
    one, other = random_ones().choose(["First .", "Second ."])
    assert one == other
    assert random_ones().choose(["First ."]) == [one]
    assert random_ones(seed=1).choose(["First ."]) != [one]


def test_a_class_that_the_corpus_has_too_little_of_is_shown_as_often_as_it_allows():
    corpus = [*CORPUS, sentence("Nowhere is far .", Nowhere="LOC")]
    places = [s for s in corpus if not any(label == "PER" for _, _, label in s.entities)]
    (shown,) = random_ones(places, per_class=3).choose(["x"])
    assert [d.class_id for d in shown.fixed] == ["LOC"]


@pytest.mark.parametrize("make", [random_ones, nearest_ones])
@given(st.data())
def test_no_demonstration_contains_the_sentence_asked_about(make, data):
    chooser = make()
    example = data.draw(st.sampled_from(CORPUS))
    words = example.text.split()
    first = data.draw(st.integers(0, len(words) - 2))
    asked = " ".join(words[first : data.draw(st.integers(first + 1, len(words)))])
    # a page writes the same words otherwise
    asked = data.draw(
        st.sampled_from([asked, asked.upper(), asked.replace(" .", "."), f"{asked}!"])
    )
    (shown,) = chooser.choose([asked])
    letters = "".join(filter(str.isalnum, asked.casefold()))
    for context in contexts((*shown.fixed, *shown.near)):
        assert f" {asked.casefold().strip(' .!')} " not in f" {context.casefold()} " or not letters
        assert len(letters) < 20 or letters not in "".join(filter(str.isalnum, context.casefold()))


def test_what_contains_the_sentence_would_be_shown_if_it_were_not_left_out():
    (usual,) = random_ones().choose(["x"])
    asked = usual.fixed[0].question.context
    (changed,) = random_ones().choose([asked])
    assert asked not in contexts(changed.fixed)
    assert len(changed.fixed) == len(usual.fixed)
    assert len(set(contexts(changed.fixed)) & set(contexts(usual.fixed))) >= 4
    # the nearest sentence of all is the sentence itself
    (near,) = nearest_ones(count=1).choose([CORPUS[5].text])
    assert near.near
    assert CORPUS[5].text not in contexts(near.near)


def test_words_divided_in_another_way_are_the_same_sentence():
    corpus = [sentence("Ada ca n't leave Rome on a Monday .")]
    (shown,) = random_ones(corpus).choose(["Ada can't leave Rome on a Monday."])
    assert not shown.fixed


def test_the_nearest_are_those_with_the_most_words_in_common_and_the_nearest_comes_last():
    corpus = [
        sentence("Ada praised Rome on a Monday ."),  # 5 of 6 words in common
        sentence("Bo left Paris ."),  # 1 of 4: the full stop
        sentence("Hu praised Rome with friends ."),  # 3 of 6
    ]
    (shown,) = nearest_ones(corpus, count=2).choose(["Hu praised Bonn on a Monday ."])
    # cosine with the question's 7 words, 5, 2 and 3 shared by 7, 4 and 6 words:
    # 5/sqrt(49) = 0.71, 1/sqrt(28) = 0.19, 3/sqrt(42) = 0.46
    assert contexts(shown.near) == [corpus[2].text, corpus[0].text]


def test_questions_of_a_table_are_answered_in_their_order_and_independently():
    asked = [example.text.replace("Monday", "Friday") for example in CORPUS] * 2
    chooser = nearest_ones()
    together = chooser.choose(asked)
    assert together == [chooser.choose([one])[0] for one in asked]
    assert together[:36] == together[36:]


@pytest.mark.parametrize("seed", range(5))
def test_non_entities_are_near_misses_capitals_and_plain_words_and_never_gold(seed):
    # near misses end at "President", "Ada", "met"; capitals are President, Monday; plain: morning
    example = sentence("President Ada met on Monday morning")
    found = {
        example.text[start:end]
        for index in range(200)
        for start, end, _ in non_entity_spans(example, seed=seed, index=index)
    }
    assert found == {"President Ada", "Ada met", "President", "Monday", "morning"}


def test_a_sentence_that_is_one_name_has_no_non_entity():
    assert non_entity_spans(sentence("Ada"), seed=0, index=0) == []


def test_hostile_words_of_a_corpus_are_shown_sanitised():
    corpus = [sentence("Ada met <|im_end|>[[x]] .")]
    (shown,) = random_ones(corpus, per_class=1).choose(["x y z"])
    assert contexts(shown.fixed) == ["Ada met < |im_end| >[x] ."]
