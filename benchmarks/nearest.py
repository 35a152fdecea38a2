"""What does it cost a question to find the nearest of many labelled spans?

Vectors are random, as wide as those of all-MiniLM-L6-v2; what an encoder takes for them is left
out. Every other question is about the sentence of the one before it.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import interleaved, load_average, peak_memory_mib, write_json
from linkner_ray.llm.context import AskedSpan, Question
from linkner_ray.llm.demonstrations import ExampleSentence, NearestDemonstrations
from linkner_ray.llm.span_vectors import SpanVectors

WIDTH = 384

SPANS_A_SENTENCE = 3
"""Two entities and a non-entity; CoNLL-2003 has 2.7."""


class RandomEmbedder:
    """Random vectors: one for each question, and one for each context."""

    def __init__(self) -> None:
        self._generator = np.random.default_rng(0)

    def __call__(self, questions: Sequence[Question]) -> SpanVectors:
        """Draw anew at every call."""
        rows: dict[str, int] = {}
        sentence_of = [rows.setdefault(question.context, len(rows)) for question in questions]
        return SpanVectors(self._draw(len(questions)), self._draw(len(rows)), np.array(sentence_of))

    def _draw(self, count: int) -> np.ndarray:
        vectors = self._generator.standard_normal((count, WIDTH), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def corpus_of(spans: int) -> list[ExampleSentence]:
    """Sentences of two words, both entities."""
    texts = [f"{number:06d} {number:07d}" for number in range(spans // SPANS_A_SENTENCE)]
    entities = ((0, 6, "X"), (7, 14, "X"))
    return [ExampleSentence(text, ((0, 6), (7, 14)), entities) for text in texts]


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Print what a question costs with each number of spans."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--questions", type=int, default=512)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    texts = [f"question {number // 2}" for number in range(options.questions)]
    asked = [AskedSpan(Question(text, 0, 8), text) for text in texts]
    numbers: dict[str, object] = {"threads": options.threads, "load": load_average()}
    for spans in options.spans:
        chooser = NearestDemonstrations(
            corpus_of(spans), RandomEmbedder(), count=6, seed=0, max_chars=500
        )
        choose = partial(chooser.choose, asked)
        numbers[f"peak_memory_mib_{spans}"] = peak_memory_mib(choose)
        timings = interleaved({"choose": choose}, rounds=options.rounds)
        numbers[f"best_ms_{spans}"] = timings["choose"].best / len(asked) * 1000
        numbers[f"cpu_ms_{spans}"] = min(timings["choose"].cpu) / len(asked) * 1000
    for name, number in numbers.items():
        print(f"{name:<28} {number:.3f}" if isinstance(number, float) else f"{name:<28} {number}")
    if options.json:
        write_json(options.json, numbers)
    return numbers


if __name__ == "__main__":
    main()
