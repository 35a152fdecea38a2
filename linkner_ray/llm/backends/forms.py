"""The forms in which a backend may ask: what stands for the options, and how a reply is produced.

Options stand behind symbols, of which the reply is one, or are offered by name alone. Which symbols
suit depends on the tokenizer of an engine, so without it only the usual form is known.
"""

from collections.abc import Iterable, Iterator

from linkner_ray.config import LlmConfig
from linkner_ray.labels import LabelSet
from linkner_ray.llm.prompts import SYMBOL_ALPHABETS, PromptBuilder, choose_symbols

ENGINE_SYMBOL = "one token out of the symbols, most probable"
ENGINE_NAME = "one of the names, most probable token by token"
ENDPOINT_SYMBOL = "one token, most probable"
REPLAYED = "replayed"

_DECODINGS = {
    "vllm": (ENGINE_SYMBOL, ENGINE_NAME),
    "openai": (ENDPOINT_SYMBOL, None),
    "replay": (REPLAYED, REPLAYED),
    "none": ("", ""),
}
"""How each backend replies with a symbol, and with a name if it may."""


def decoding_of(backend: str, *, by_name: bool) -> str:
    """How replies of a backend come about; "" where it never asks so."""
    return _DECODINGS[backend][by_name] or ""


def usual_symbols(config: LlmConfig, count: int) -> tuple[str, ...]:
    """Symbols for the options, as far as they are known without a tokenizer; none for names.

    Args:
        config: Of the LLM.
        count: Number of options.

    Raises:
        ConfigError: If there are too few symbols, and names cannot be asked for instead.
    """
    may_name = _DECODINGS[config.backend][1] is not None and config.answer_form != "symbol"
    is_long = count > len(SYMBOL_ALPHABETS[0])
    if config.answer_form == "choice" or (is_long and (may_name or config.backend == "none")):
        return ()
    return choose_symbols(count)


def possible_builders(
    config: LlmConfig,
    label_set: LabelSet,
    *,
    backends: Iterable[str],
    revisions: Iterable[str | None],
) -> Iterator[PromptBuilder]:
    """A prompt builder for each form in which one of some backends may have asked."""
    count = len(label_set.classes)
    forms: list[tuple[str, ...]] = [
        choose_symbols(count, alphabet) for alphabet in SYMBOL_ALPHABETS if count <= len(alphabet)
    ]
    for backend in backends:
        for revision in dict.fromkeys(revisions):
            for symbols in (*forms, ()):
                decoding = _DECODINGS[backend][not symbols]
                if decoding is not None:
                    yield PromptBuilder.from_config(
                        config, label_set, symbols, revision=revision, decoding=decoding
                    )
