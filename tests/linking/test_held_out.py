"""What the answers say about a part of dev, learned on the other parts."""

import numpy as np
import pytest

from linkner_ray.linking.held_out import evidence_of_probs, held_out_surprise
from linkner_ray.linking.judged import UNANSWERED, Answers
from tests.linking.made import candidates, drawn


def mean_surprise(found, answers, gold):
    return held_out_surprise(found, answers, gold).mean()


@pytest.mark.parametrize("with_probs", [False, True])
def test_gold_surprises_less_with_better_answers(with_probs):
    means = []
    for accuracy in (0.0, 0.5, 0.9):
        found, answers, gold = drawn(600, accuracy=accuracy, with_probs=with_probs)
        means.append(mean_surprise(found, answers, gold))
    nobody = Answers(said=np.full(600, UNANSWERED), probs=None)
    alone = mean_surprise(found, nobody, gold)

    assert means[0] == pytest.approx(alone, abs=0.02)
    assert alone > means[1] + 0.1 > means[2] + 0.3


def test_without_answers_it_is_that_of_the_local_model():
    """Candidates of which the local model is right about as often as it says."""
    probs = np.tile([0.2, 0.8], (500, 1))
    gold = np.tile([0, 1, 1, 1, 1], 100)
    nobody = Answers(said=np.full(500, UNANSWERED), probs=None)

    surprise = held_out_surprise(candidates(probs), nobody, gold)

    assert surprise.mean() == pytest.approx(-0.2 * np.log(0.2) - 0.8 * np.log(0.8), abs=0.01)


def test_a_candidate_without_an_answer_is_the_local_models():
    found, answers, gold = drawn(600, accuracy=0.9)
    nobody = Answers(said=np.full(600, UNANSWERED), probs=None)
    some = answers.said.copy()
    some[:300] = UNANSWERED

    alone = held_out_surprise(found, nobody, gold)
    half = held_out_surprise(found, Answers(said=some, probs=None), gold)

    assert (half[:300] == alone[:300]).all()
    assert half[300:].mean() < alone[300:].mean() - 0.3


def test_the_average_is_taken_out_of_probabilities():
    probs = np.array([[0.8, 0.2], [0.4, 0.6]])

    evidence, prior = evidence_of_probs(Answers(said=np.array([0, 1]), probs=probs))

    # On average 0.6 and 0.4: odds of 4 and 2/3 become 8/3 and 4/9.
    assert np.exp(prior) == pytest.approx([0.6, 0.4])
    assert np.exp(evidence[:, 0] - evidence[:, 1]) == pytest.approx([8 / 3, 4 / 9])
    lacking = np.array([[0.8, 0.2], [np.nan, np.nan]])
    assert evidence_of_probs(Answers(said=np.array([0, 1]), probs=lacking)) is None
