"""A link in a line."""

from linkner_ray.linking.summary import describe_summary, summary_of
from tests.linking.made import link_of

CLASSES = ("O", "PER", "LOC")


def test_a_link_that_asks_is_told_with_what_it_rests_on():
    said = describe_summary("s3://links/gpt.json", summary_of(link_of(CLASSES)))

    assert "s3://links/gpt.json" in said
    assert "60.00 by the local model and 90.00 with all answers" in said
    assert "+30.00 +- 2.00 points" in said
    assert "not started" not in said


def test_a_link_that_does_not_ask_says_why():
    said = describe_summary("gpt.json", summary_of(link_of(CLASSES, gain=0.039)))

    assert "+3.90 +- 2.00 points" in said
    assert "not told from chance, so the LLM is not started" in said
