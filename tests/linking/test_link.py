"""A link, fitted where gold is known."""

import json

import numpy as np
import pytest

from linkner_ray.linking.judged import UNANSWERED, Answers
from linkner_ray.linking.link import Link, fit_link
from linkner_ray.linking.value import contribution
from tests.linking.made import drawn, link_of

CLASSES = ("O", "PER", "LOC")


def f1_of(decided, gold):
    right = ((decided > 0) & (decided == gold)).sum()
    return 2 * right / ((decided > 0).sum() + (gold > 0).sum())


def fit(found, answers, gold):
    counted = int((found.local > 0).sum() + (gold > 0).sum())
    f1 = f1_of(found.local, gold)
    return fit_link(found, answers, gold, classes=CLASSES, f1=f1, num_counted=counted)


@pytest.mark.parametrize("with_probs", [False, True])
def test_a_good_llm_is_asked_and_gains(with_probs):
    link = fit(*drawn(600, accuracy=0.8, with_probs=with_probs))
    found, answers, gold = drawn(2_000, accuracy=0.8, seed=1, with_probs=with_probs)

    decided, score = link.fuse(found, answers)

    assert link.asks
    assert f1_of(decided, gold) > f1_of(found.local, gold) + 0.1
    assert f1_of(decided, gold) > f1_of(answers.said, gold)
    assert ((score > 0) & (score <= 1)).all()


@pytest.mark.parametrize("with_probs", [False, True])
def test_a_useless_llm_is_not_asked(with_probs):
    found, answers, gold = drawn(600, accuracy=0.8, with_probs=with_probs)
    dealt = answers.take(np.random.default_rng(1).permutation(600))

    link = fit(found, dealt, gold)

    assert not link.asks
    assert not link.value(found).any()


def test_a_handful_of_answers_is_not_enough():
    assert not fit(*drawn(8, accuracy=0.5)).asks


def test_questions_of_more_value_gain_more():
    link = fit(*drawn(600, accuracy=0.7))
    found, answers, gold = drawn(4_000, accuracy=0.7, seed=2)
    decided, _ = link.fuse(found, answers)
    gained = contribution(decided, gold, link.aim) - contribution(found.local, gold, link.aim)
    gained /= 2 - link.aim
    order = np.argsort(-link.value(found))
    first, second, last = (gained[part].mean() for part in np.array_split(order, 3))

    assert first > second > last - 0.02
    assert link.value(found).mean() == pytest.approx(gained.mean(), abs=0.1)


def test_who_was_not_asked_is_decided_locally():
    found, answers, gold = drawn(600, accuracy=0.8)
    link = fit(found, answers, gold)
    nobody = Answers(said=np.full(600, UNANSWERED), probs=None)

    assert (link.fuse(found, nobody)[0] == found.local).all()


def test_it_is_kept_as_json():
    link = fit(*drawn(200, accuracy=0.8, with_probs=True))
    found, answers, _ = drawn(50, accuracy=0.8, seed=3, with_probs=True)

    again = Link.from_json(json.loads(json.dumps(link.to_json())))

    assert (again.value(found) == link.value(found)).all()
    assert (again.fuse(found, answers)[1] == link.fuse(found, answers)[1]).all()


def test_what_is_expected_of_a_share_rises_to_what_comes_of_all():
    found, answers, gold = drawn(2_000, accuracy=0.8)
    link = fit(found, answers, gold)
    other, told, truth = drawn(4_000, accuracy=0.8, seed=1)
    linked = f1_of(link.fuse(other, told)[0], truth)
    shares, expected = zip(*link.by_share, strict=True)

    assert shares[-1] == 1.0
    assert expected[0] > link.f1
    # Half of the questions gain nearly all.
    assert expected[-2] > link.f1 + 0.75 * (expected[-1] - link.f1)
    assert linked == pytest.approx(expected[-1], abs=0.02)


@pytest.mark.parametrize(
    ("share", "f1"), [(0.0, 0.6), (0.05, 0.65), (0.1, 0.7), (0.4, 0.775), (1.0, 0.9)]
)
def test_f1_between_two_shares_lies_on_the_line_between_theirs(share, f1):
    assert link_of(CLASSES).f1_at(share) == pytest.approx(f1)


def test_without_shares_f1_is_that_of_the_local_model():
    assert link_of(CLASSES, by_share=()).f1_at(0.5) == 0.6


def test_an_answer_without_probabilities_changes_no_other():
    link = fit(*drawn(600, accuracy=0.8, with_probs=True))
    found, answers, _ = drawn(40, accuracy=0.8, seed=1, with_probs=True)
    decided, score = link.fuse(found, answers)
    lacking = answers.probs.copy()
    lacking[7] = np.nan

    others = np.delete(np.arange(40), 7)
    again, score_again = link.fuse(found, Answers(said=answers.said, probs=lacking))
    by_choice = link.fuse(found, Answers(said=answers.said, probs=None))

    assert (again[others] == decided[others]).all()
    assert (score_again[others] == score[others]).all()
    assert (again[7], score_again[7]) == (by_choice[0][7], by_choice[1][7])


def test_a_link_of_answers_that_lack_probabilities_goes_by_choices():
    found, answers, gold = drawn(600, accuracy=0.8, with_probs=True)
    answers.probs[3] = np.nan

    assert fit(found, answers, gold).pooled is None
