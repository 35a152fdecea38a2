"""What 1,000 documents take, by hand."""

import pytest

from linkner_ray.config import ExtractConfig
from linkner_ray.runs.bill import per_1000_documents
from linkner_ray.runs.counters import LlmCosts

COSTS = {"questions_asked": 152, "prompt_tokens_asked": 43_016}


def config(**llm):
    return ExtractConfig.model_validate(
        {
            "input": {"paths": ["crawl"]},
            "output": {"path": "out"},
            "recognize": {"checkpoint": "model"},
            "llm": {"model": "judge", **llm},
            "resources": {
                "encoder_actors": 4, "encoder_gpus": 0.5, "llm_actors": 3, "llm_gpus": 2,
            },
        }
    )  # fmt: skip


def bill(costs=COSTS, documents=2, **llm):
    return per_1000_documents(costs, documents=documents, seconds=3.6, config=config(**llm))


def test_figures_are_for_1000_documents():
    figures = {"questions": 76_000, "prompt_tokens": 21_508_000, "seconds": 1800}
    assert bill() == pytest.approx(figures)
    computed = {**COSTS, "prompt_tokens_computed": 8000}
    assert bill(computed) == pytest.approx({**figures, "prompt_tokens_computed": 4_000_000})
    assert bill(documents=0) == {}


@pytest.mark.parametrize(
    ("llm", "price"),
    [
        # 21.508 million tokens; 8 GPUs, half an hour each; both
        ({"price_per_million_tokens": 0.5}, 10.754),
        ({"price_per_gpu_hour": 2}, 8.0),
        ({"price_per_million_tokens": 0.5, "price_per_gpu_hour": 2}, 18.754),
        ({"price_per_million_tokens": 0}, 0.0),
        # without an LLM those of the encoders remain
        ({"backend": "none", "price_per_gpu_hour": 2}, 2.0),
    ],
)
def test_a_price_is_that_of_tokens_and_of_the_gpus_that_actors_hold(llm, price):
    assert bill(**llm)["price"] == pytest.approx(price)


def test_what_an_engine_computed_is_divided_among_units():
    said = iter(
        [
            {"engine": "not started"},
            {"start_option_mass": "0.25", "prompt_tokens_computed": 100},
            {"start_option_mass": "0.25", "prompt_tokens_computed": 130},
        ]
    )
    costs = LlmCosts(lambda: next(said))
    start = {"units_after_llm_start": 1, "start_option_mass_ppm": 250_000}
    assert [costs.of_unit() for _ in range(3)] == [
        {},
        {**start, "prompt_tokens_computed": 100},
        {**start, "prompt_tokens_computed": 30},
    ]
