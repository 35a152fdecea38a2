"""Which way of asking is the best."""

import numpy as np
import pyarrow as pa
import pytest

from linkner_ray.config import LlmConfig
from linkner_ray.evaluation.trials import Trial, best_of

NOISE = np.random.default_rng(0).normal(0.0, 1.0, 400)


def trial(gain, *, tokens, noise=0.0):
    return Trial(
        llm=LlmConfig(model="m"),
        table=pa.table({}),
        tokens=tokens,
        right=0.5,
        gain=gain + noise * NOISE,
    )


@pytest.mark.parametrize(
    ("gains", "tokens", "noises", "best"),
    [
        ((0.1, 0.3), (100, 500), (0, 0), 1),  # better by more than any error
        ((0.3, 0.3), (500, 100), (0, 0), 1),  # as good and cheaper
        ((0.30, 0.34), (100, 500), (0, 1), 0),  # within an error of 0.05
        ((0.30, 0.37), (100, 500), (0, 1), 1),  # beyond it
        ((0.30, 0.34), (100, 500), (1, 1), 1),  # what both have in common is no error
        ((0.2, 0.3), (100, 100), (0, 1.9), 1),  # as dear, so the better one
    ],
)
def test_the_cheapest_within_a_standard_error_of_the_best(gains, tokens, noises, best):
    noise_mean = NOISE.mean()
    trials = [
        trial(gain - noise * noise_mean, tokens=number, noise=noise)
        for gain, number, noise in zip(gains, tokens, noises, strict=True)
    ]

    assert best_of(trials) is trials[best]
