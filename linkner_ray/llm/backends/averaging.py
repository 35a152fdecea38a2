"""Questions asked in several orders of their options, and one answer made of the answers.

A model's favour for a position falls on another option in each order, and the mean has less of it.
"""

from collections import Counter
from collections.abc import Sequence

from linkner_ray.llm.backends.protocol import Backend
from linkner_ray.llm.prompts import Answer, Request, Verdict


class AveragingBackend:
    """Asks the variants of each request of another backend; callers see one request.

    A failure of one variant is counted by the other backend, and fails the whole request.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.symbols = backend.symbols
        self.decoding = backend.decoding

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer every request, in the order given; all variants are under way at once.

        Raises:
            BackendError: If no further request can succeed.
        """
        asked = [variant for request in requests for variant in request.variants or (request,)]
        answers = iter(self._backend.ask(asked))
        return [
            average_answers(request, [next(answers) for _ in request.variants])
            if request.variants
            else next(answers)
            for request in requests
        ]

    def describe(self) -> dict[str, str | int]:
        """What the other backend says of itself."""
        return self._backend.describe()

    def close(self) -> None:
        """Close the other backend."""
        self._backend.close()


def average_answers(request: Request, answers: Sequence[Answer]) -> Answer:
    """Make one answer of the answers to the variants of a request.

    Args:
        request: The whole question; the answer is named by its key.
        answers: To each of its variants, in their order.

    Returns:
        The most probable class by the mean of all probabilities, equal ones to the class offered
        first by the request itself. Where an answer lacks probabilities, the verdict and label that
        most answers have, equal ones to the earlier variant, without probabilities. FAILED if any
        answer is. Prompt tokens are those of all variants.
    """
    counts = [answer.prompt_tokens for answer in answers]
    tokens = sum(count for count in counts if count is not None) if any(counts) else None
    if any(answer.verdict is Verdict.FAILED for answer in answers):
        return Answer(verdict=Verdict.FAILED, key=request.key, prompt_tokens=tokens)
    given = [answer.probs for answer in answers if answer.probs is not None]
    if len(given) < len(answers):
        votes = Counter((answer.verdict, answer.label) for answer in answers)
        (verdict, label), _ = votes.most_common(1)[0]
        return Answer(verdict=verdict, label=label, key=request.key, prompt_tokens=tokens)
    means = tuple(sum(column) / len(given) for column in zip(*given, strict=True))
    mean_of = dict(zip(request.class_order, means, strict=True))
    best = max((class_id for _, class_id in request.options), key=mean_of.__getitem__)
    return Answer.of_class(best, key=request.key, probs=means, prompt_tokens=tokens)
