"""The one fake of the test suite: an LLM that follows a script."""

from collections.abc import Callable, Mapping, Sequence

from linkner_ray.labels import NON_ENTITY, LabelSet
from linkner_ray.llm.prompts import Answer, Request, Verdict, choose_symbols, read_probs


class ScriptedBackend:
    """Answers by a script and keeps what it was asked.

    Args:
        label_set: Labels of the questions.
        script: What to reply to a request: a class id of the label set ("O" for non-entity), the
            verdict UNREADABLE or FAILED, or probabilities by class id. Given as a function of the
            request, or as a mapping from the span's text; spans it lacks are non-entities.
    """

    decoding = "scripted"

    def __init__(
        self,
        label_set: LabelSet,
        script: Callable[[Request], str | Verdict | Mapping[str, float]]
        | Mapping[str, str | Verdict | Mapping[str, float]],
    ) -> None:
        self.symbols = choose_symbols(len(label_set.classes))
        self.requests: list[Request] = []
        self.num_calls = 0
        self.is_closed = False
        self._script = script

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        self.num_calls += 1
        self.requests.extend(requests)
        return [self._answer(request) for request in requests]

    def describe(self) -> dict[str, str | int]:
        return {"backend": "scripted", "requests": len(self.requests)}

    def close(self) -> None:
        self.is_closed = True

    def _answer(self, request: Request) -> Answer:
        if isinstance(self._script, Mapping):
            reply = self._script.get(request.question.span, NON_ENTITY)
        else:
            reply = self._script(request)
        if isinstance(reply, Verdict):
            return Answer(verdict=reply, key=request.key)
        weights = {reply: 1.0} if isinstance(reply, str) else reply
        by_symbol = {symbol: weights.get(class_id, 0.0) for symbol, class_id in request.options}
        return read_probs(request, by_symbol, prompt_tokens=1)
