"""Columns of the stages as arrays."""

import numpy as np
import pyarrow as pa

from linkner_ray.linking.judged import UNANSWERED, Answers, Candidates
from linkner_ray.schemas import STAGE_COLUMNS

CLASSES = ("O", "PER", "LOC")


def candidate(start, end, kind, *, label="PER", probs=(0.25, 0.5, 0.25)):
    return {
        "sentence": 0,
        "start": start,
        "end": end,
        "label": label,
        "label_probs": probs,
        "uncertainty": 0.5,
        "kind": kind,
    }


def answer(verdict, label=None, probs=None):
    return {
        "verdict": verdict,
        "label": label,
        "probs": probs,
        "key": "k",
        "source": "llm",
        "prompt_tokens": 3,
    }


def column(name, rows):
    return pa.array(rows, STAGE_COLUMNS[name])


def test_candidates_that_overlap_are_of_kinds_of_their_own():
    found = Candidates.of(
        column(
            "candidates",
            [
                [
                    candidate(0, 4, "predicted"),
                    candidate(4, 9, "near_miss"),  # only touches
                    candidate(10, 20, "predicted", label="LOC"),
                    candidate(12, 25, "near_miss"),
                    candidate(24, 30, "predicted"),
                    candidate(31, 33, "predicted"),
                ],
                [],
                [candidate(0, 30, "near_miss"), candidate(40, 41, "predicted")],
            ],
        ),
        CLASSES,
    )

    assert found.kind.tolist() == [0, 2, 1, 3, 1, 0, 2, 0]
    assert found.local.tolist() == [1, 0, 2, 0, 1, 1, 0, 1]
    assert found.document.tolist() == [0, 0, 0, 0, 0, 0, 2, 2]
    assert found.probs[0].tolist() == [0.25, 0.5, 0.25]


def test_a_near_miss_may_overlap_several_and_be_found_from_inside():
    found = Candidates.of(
        column(
            "candidates",
            [
                [
                    candidate(0, 100, "near_miss"),
                    candidate(10, 20, "predicted"),
                    candidate(30, 90, "predicted"),
                    candidate(40, 50, "near_miss"),
                ]
            ],
        ),
        CLASSES,
    )

    assert found.kind.tolist() == [3, 1, 1, 3]


def test_no_documents_have_no_candidates():
    assert len(Candidates.of(column("candidates", []), CLASSES)) == 0
    assert len(Candidates.of(column("candidates", [[]]), CLASSES)) == 0


def test_answers_name_a_class_or_none():
    found = Answers.of(
        column(
            "answers",
            [[answer("label", "LOC"), answer("non_entity"), None], [answer("unreadable")]],
        ),
        CLASSES,
    )

    assert found.said.tolist() == [2, 0, UNANSWERED, UNANSWERED]
    assert found.probs is None


def test_probabilities_are_those_of_the_llm_where_it_answers():
    probs = [0.25, 0.25, 0.5]
    found = Answers.of(
        column("answers", [[None, answer("label", "LOC", probs), answer("failed")]]), CLASSES
    )

    assert found.probs is not None
    assert found.probs[1].tolist() == probs
    assert found.has_probs().tolist() == [False, True, False]
    assert np.isnan(found.probs[0]).all()
