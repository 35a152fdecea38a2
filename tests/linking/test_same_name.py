"""Which answer counts for candidates of the same words."""

import pyarrow as pa
import pytest

from linkner_ray.errors import ContractError
from linkner_ray.linking.same_name import share_answers
from linkner_ray.schemas import ANSWER, STAGE_COLUMNS


def table(text, routes):
    """Documents of one text, a candidate in the place of each character."""
    places = [
        [{"sentence": 0, "start": start, "end": start + 1} for start in range(len(row))]
        for row in routes
    ]
    return pa.table(
        {
            "text": [text] * len(routes),
            "candidates": pa.array(places, STAGE_COLUMNS["candidates"]),
            "routes": pa.array(routes, STAGE_COLUMNS["routes"]),
        }
    )


def answers(*said):
    """Answers by their label, or by their verdict where they have none."""
    rows = [
        one and ({"verdict": "label", "label": one} if one.isupper() else {"verdict": one})
        for one in said
    ]
    return pa.array(rows, ANSWER)


def brief(shared):
    return [one and (one["label"] or one["verdict"]) for one in shared.to_pylist()]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["PER"], "PER"),
        (["non_entity"], "non_entity"),
        (["failed"], "failed"),
        (["unreadable", "ORG"], "ORG"),
        (["PER", "ORG", "ORG"], "ORG"),
        (["PER", "non_entity", "non_entity"], "non_entity"),
        (["ORG", "PER"], "ORG"),
        (["failed", "unreadable"], "failed"),
    ],
)
def test_the_readable_answer_that_most_questions_got_counts(said, expected):
    routes = ["same_name", "audit", *["llm"] * len(said), "same_name"]
    known = answers(None, "MISC", *said, None)
    shared = share_answers(table("aaaaaaa", [routes]), known)
    assert brief(shared) == [expected, "MISC", *said, expected]


def test_answers_stay_in_their_document_and_with_their_words():
    rows = [["llm", "llm", "same_name", "local"], ["same_name", "llm", "llm", "over_budget"]]
    known = answers("PER", "ORG", None, None, None, "LOC", "MISC", None)
    shared = share_answers(table("abab", rows), known)
    assert brief(shared) == ["PER", "ORG", "PER", None, "MISC", "LOC", "MISC", None]


def test_a_name_that_nothing_was_asked_about_is_a_bug():
    with pytest.raises(ContractError, match="'b', has no answer to share"):
        share_answers(table("ab", [["llm", "same_name"]]), answers("PER", None))
