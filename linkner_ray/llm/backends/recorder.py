"""A backend that answers nothing and says how long each prompt is."""

import math
from collections.abc import Sequence
from pathlib import Path

from linkner_ray.config import LlmConfig
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends import engine_start
from linkner_ray.llm.backends.forms import decoding_of, usual_symbols
from linkner_ray.llm.chat import PromptEncoder
from linkner_ray.llm.prompts import Answer, Request, Verdict

CHARS_PER_TOKEN = 4
"""Of an LLM whose tokenizer is not at hand."""


class Recorder:
    """A backend that answers nothing and says how long each prompt is."""

    def __init__(self, config: LlmConfig, label_set: LabelSet) -> None:
        self.symbols = usual_symbols(config, len(label_set.classes))
        self.requests: list[Request] = []
        self._encoder: PromptEncoder | None = None
        if config.model and Path(config.model).is_dir():  # "" would be the working directory
            tokenizer = engine_start.load_tokenizer(config)
            self._encoder = PromptEncoder(tokenizer, name=config.model)
            if config.backend == "vllm":
                chosen = engine_start.choose_answer_symbols(config, self._encoder, label_set)
                self.symbols = chosen.symbols
        self.decoding = decoding_of(config, self.symbols)

    @property
    def is_exact(self) -> bool:
        """Whether prompts are measured by the LLM's own tokenizer."""
        return self._encoder is not None

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """No answers, with the tokens of each prompt."""
        self.requests.extend(requests)
        return [
            Answer(verdict=Verdict.FAILED, key=request.key, prompt_tokens=self._num_tokens(request))
            for request in requests
        ]

    def _num_tokens(self, request: Request) -> int:
        if self._encoder is not None:
            return len(
                self._encoder.encode(
                    request.fixed_part,
                    request.user_message,
                    demonstrations=request.fixed_demonstrations,
                )
            )
        characters = sum(len(content) for _, content in request.messages)
        return math.ceil(characters / CHARS_PER_TOKEN)

    def describe(self) -> dict[str, str | int]:
        """What it is."""
        return {"backend": "recorder", "requests": len(self.requests)}

    def close(self) -> None:
        """Nothing to free."""
