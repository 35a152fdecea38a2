"""What a run says of its first units."""

from types import SimpleNamespace

import pytest

from linkner_ray.config import ExtractConfig
from linkner_ray.extract.first_units import FirstUnits
from linkner_ray.runs.folder import UnitResult


def unit_result(questions, documents=30):
    return UnitResult(
        unit="u", source="a", first_record=0, num_records=30, is_last=False,
        counts={"documents_read": documents},
        costs={"questions_asked": questions, "prompt_tokens_asked": 283 * questions},
    )  # fmt: skip


def said_of(*unit_results, has_llm=True, routing=None, **llm):
    config = ExtractConfig.model_validate(
        {
            "input": {"paths": ["crawl"]},
            "output": {"path": "out"},
            "recognize": {"checkpoint": "model"},
            "llm": {"model": "judge", **llm},
            "routing": routing or {},
        }
    )
    said = []
    first_units = FirstUnits(SimpleNamespace(config=config, has_llm=has_llm), said.append)
    for one in unit_results:
        first_units.add(one)
    return said


def test_the_first_units_say_once_what_a_thousand_documents_ask():
    assert said_of(unit_result(2280)) == []
    [said] = said_of(unit_result(2280), unit_result(2280), unit_result(9))
    assert "the first 60 documents asked 4,560 questions: 76.0 each" in said
    assert "For 1,000 documents that is 76,000 questions and 21,508,000 prompt tokens. " in said
    [priced] = said_of(unit_result(4560, 60), price_per_million_tokens=0.5)
    assert "21,508,000 prompt tokens, a price of 10.75. " in priced


@pytest.mark.parametrize(
    "settings",
    [
        {"routing": {"budget": "5%"}},
        {"routing": {"link": "link.json"}},
        {"has_llm": False},
    ],
)
def test_a_run_that_is_bounded_or_asks_nobody_says_nothing(settings):
    assert said_of(unit_result(4560, 60), **settings) == []
    assert said_of(unit_result(0, 60)) == []
