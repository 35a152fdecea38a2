import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.llm.context import AskedSpan, Question
from linkner_ray.llm.demonstrations import (
    ExampleSentence,
    NearestDemonstrations,
    RandomDemonstrations,
    non_entity_spans,
)
from linkner_ray.llm.span_vectors import SpanVectors

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


def count_words(texts):
    """Counts of words, scaled to length 1."""
    rows = [[text.split().count(word) for word in WORDS] for text in texts]
    counts = np.array(rows, np.float32).reshape(-1, len(WORDS))
    return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def embed(questions):
    contexts = list(dict.fromkeys(question.context for question in questions))
    sentence_of = np.array([contexts.index(question.context) for question in questions], int)
    return SpanVectors(count_words([q.span for q in questions]), count_words(contexts), sentence_of)


def ask(text, span=None, sentence=None):
    """A question about a span of a text, its first word if none is given."""
    span = span or text.split()[0]
    start = text.index(span)
    return AskedSpan(Question(text, start, start + len(span)), sentence or text)


def random_ones(corpus=CORPUS, *, per_class=2, seed=0):
    return RandomDemonstrations(corpus, CLASSES, per_class=per_class, seed=seed, max_chars=500)


def nearest_ones(corpus=CORPUS, *, count=3, seed=0):
    return NearestDemonstrations(corpus, embed, count=count, seed=seed, max_chars=500)


def contexts(demonstrations):
    return [demonstration.question.context for demonstration in demonstrations]


def test_every_class_is_shown_as_often_as_wanted_non_entity_among_them():
    (shown,) = random_ones(per_class=3).choose([ask("Something else .")])
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
        (shown,) = chooser.choose([ask("Ada met Hu .")])
        for question, class_id in (*shown.fixed, *shown.near):
            assert gold.get((question.context, question.start, question.end), "O") == class_id


def test_nearly_all_questions_share_the_fixed_ones_and_the_seed_decides_them():
    one, other = random_ones().choose([ask("First ."), ask("Second .")])
    assert one == other
    assert random_ones().choose([ask("First .")]) == [one]
    assert random_ones(seed=1).choose([ask("First .")]) != [one]


def test_a_class_that_the_corpus_has_too_little_of_is_shown_as_often_as_it_allows():
    corpus = [*CORPUS, sentence("Nowhere is far .", Nowhere="LOC")]
    places = [s for s in corpus if not any(label == "PER" for _, _, label in s.entities)]
    (shown,) = random_ones(places, per_class=3).choose([ask("x")])
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
    (shown,) = chooser.choose([ask(asked)])
    letters = "".join(filter(str.isalnum, asked.casefold()))
    for context in contexts((*shown.fixed, *shown.near)):
        assert f" {asked.casefold().strip(' .!')} " not in f" {context.casefold()} " or not letters
        assert len(letters) < 20 or letters not in "".join(filter(str.isalnum, context.casefold()))


def test_what_contains_the_sentence_would_be_shown_if_it_were_not_left_out():
    (usual,) = random_ones().choose([ask("x")])
    asked = usual.fixed[0].question.context
    (changed,) = random_ones().choose([ask(asked)])
    assert asked not in contexts(changed.fixed)
    assert len(changed.fixed) == len(usual.fixed)
    assert len(set(contexts(changed.fixed)) & set(contexts(usual.fixed))) >= 4
    # the nearest span of all is the span itself
    (near,) = nearest_ones(count=1).choose([ask(CORPUS[5].text)])
    assert near.near
    assert CORPUS[5].text not in contexts(near.near)


def test_words_divided_in_another_way_are_the_same_sentence():
    corpus = [sentence("Ada ca n't leave Rome on a Monday .")]
    (shown,) = random_ones(corpus).choose([ask("Ada can't leave Rome on a Monday.")])
    assert not shown.fixed


def test_the_nearest_are_like_the_span_and_its_sentence_and_the_nearest_comes_last():
    corpus = [
        sentence("Ada praised Rome on a Monday ."),
        sentence("Hu left Bonn ."),
        sentence("Bo visited friends in Rome ."),
        sentence("Bo reached Paris on a Monday ."),
    ]
    (shown,) = nearest_ones(corpus, count=3).choose([ask("Hu praised Rome on a Monday .", "Rome")])
    # Cosines of Rome and its sentence: 1 and 6/7; 1 and 2/sqrt(5 * 7), as "in" is no known word.
    # Of the others the span is unlike, and 4 of 7 words are those of the last sentence.
    assert contexts(shown.near) == [corpus[3].text, corpus[2].text, corpus[0].text]
    assert [d.question.span for d in shown.near[1:]] == ["Rome", "Rome"]
    # of one sentence another span finds another one
    (shown,) = nearest_ones(corpus, count=1).choose([ask("Hu praised Rome on a Monday .", "Hu")])
    assert [(d.question.span, d.class_id) for d in shown.near] == [("Hu", "PER")]


def test_no_two_come_from_one_sentence_however_many_spans_of_it_are_near():
    crowd = sentence(" ".join(["Rome"] * 100))
    (shown,) = nearest_ones([crowd, *CORPUS], count=4).choose([ask("Rome Bonn")])
    assert len(shown.near) == len(set(contexts(shown.near))) == 4
    assert shown.near[-1].question.context == crowd.text


def test_the_sentence_asked_about_decides_what_is_left_out_and_not_its_context():
    own = CORPUS[5].text
    wide = ask(f"First . {own} Last .", "Ada", sentence=own)
    (shown,) = nearest_ones(count=len(CORPUS)).choose([wide])
    assert set(contexts(shown.near)) == {example.text for example in CORPUS} - {own}


def test_questions_of_a_table_are_answered_in_their_order_and_independently(monkeypatch):
    texts = [example.text.replace("Monday", "Friday") for example in CORPUS]
    asked = [ask(text, span) for text in texts for span in (text.split()[0], text.split()[2])]
    chooser = nearest_ones()
    together = chooser.choose(asked)
    assert together == [chooser.choose([one])[0] for one in asked]
    assert chooser.choose(asked[::-1]) == together[::-1]
    monkeypatch.setattr("linkner_ray.llm.span_vectors._SCORES_AT_ONCE", 500)
    assert chooser.choose(asked) == together


@pytest.mark.parametrize("count", [1, 30, 1400])
def test_of_many_spans_the_nearest_are_found_exactly_equal_ones_by_place(count):
    words = np.random.default_rng(0).integers(0, 4, size=(1500, 4))
    # a token of its own keeps sentences apart, but is no known word
    corpus = [
        sentence(" ".join([f"s{n}", *(VERBS[w] for w in row), "Rome"]))
        for n, row in enumerate(words)
    ]
    asked = ask("Rome praised praised left", "Rome")
    (shown,) = nearest_ones(corpus, count=count).choose([asked])
    own_span, own_sentence = count_words(["Rome", asked.sentence])
    best = []
    for index, (example, of_sentence) in enumerate(
        zip(corpus, count_words([example.text for example in corpus]) @ own_sentence, strict=True)
    ):
        spans = [*example.entities, *non_entity_spans(example, seed=0, index=index)]
        of_spans = count_words([example.text[start:end] for start, end, _ in spans]) @ own_span
        best.append(max(of_spans + of_sentence))
    order = np.argsort(-np.array(best).round(4), kind="stable")[:count]
    assert contexts(shown.near) == [corpus[index].text for index in order[::-1]]


def test_a_broken_encoder_does_not_search_forever():
    def broken(questions):
        vectors = embed(questions)
        return vectors._replace(spans=np.full_like(vectors.spans, np.nan))

    chooser = NearestDemonstrations(CORPUS, broken, count=2, seed=0, max_chars=500)
    assert len(chooser.choose([ask("Ada met Bo .")])[0].near) == 2


def test_a_corpus_without_spans_shows_nothing():
    (shown,) = nearest_ones([sentence("12 34")]).choose([ask("Ada")])
    assert shown.near == ()


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
    (shown,) = random_ones(corpus, per_class=1).choose([ask("x y z")])
    assert contexts(shown.fixed) == ["Ada met < |im_end| >[x] ."]
