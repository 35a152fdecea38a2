"""The forms in which a backend may ask: what stands for the options, and how a reply is produced.

symbol: options stand behind symbols, of which the reply is one.
name: options are offered by name alone, and the first token of the reply tells which.
choice: offered so, too, and the reply is a whole name.

Which symbols suit, and which names begin alike, depends on the tokenizer of an engine, so without
it only the usual symbols and the names themselves are known.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from linkner_ray.config import LlmConfig
from linkner_ray.labels import LabelSet
from linkner_ray.llm.prompts import SYMBOL_ALPHABETS, PromptBuilder, choose_symbols

Form = Literal["symbol", "name", "choice"]

ENGINE_SYMBOL = "one token out of the symbols, most probable"
ENGINE_NAME_BEGIN = "one token out of the first ones of the names, most probable"
ENGINE_NAME = "one of the names, most probable token by token"
ENDPOINT_SYMBOL = "one token, most probable"
REPLAYED = "replayed"

_DECODINGS: Mapping[str, Mapping[Form, str]] = {
    "vllm": {"symbol": ENGINE_SYMBOL, "name": ENGINE_NAME_BEGIN, "choice": ENGINE_NAME},
    "openai": {"symbol": ENDPOINT_SYMBOL},
    "replay": {"symbol": REPLAYED, "choice": REPLAYED},
    "none": {"symbol": "", "choice": ""},
}
"""How replies come about in each form in which a backend asks."""


def decoding_of(config: LlmConfig, symbols: Sequence[str]) -> str:
    """How replies come about of a backend with these `symbols`; "" where it never asks so."""
    form: Form = "choice"
    if symbols:
        form = "name" if config.answer_form == "name" else "symbol"
    return _DECODINGS[config.backend].get(form, "")


def usual_symbols(config: LlmConfig, count: int) -> tuple[str, ...]:
    """Symbols for the options, as far as they are known without a tokenizer; none for names.

    Raises:
        ConfigError: If there are too few symbols, and names cannot be asked for instead.
    """
    may_name = "choice" in _DECODINGS[config.backend] and config.answer_form != "symbol"
    is_long = count > len(SYMBOL_ALPHABETS[0])
    by_name = config.answer_form in ("name", "choice")
    if by_name or (is_long and (may_name or config.backend == "none")):
        return ()
    return choose_symbols(count)


def possible_builders(
    config: LlmConfig,
    label_set: LabelSet,
    *,
    backends: Iterable[str],
    revisions: Iterable[str | None],
) -> Iterator[PromptBuilder]:
    """A prompt builder for each form in which one of some backends may have asked.

    All but one: where names begin alike and other words stood for them, see `choose_names`.
    """
    count = len(label_set.classes)
    symbols = [
        choose_symbols(count, alphabet) for alphabet in SYMBOL_ALPHABETS if count <= len(alphabet)
    ]
    offers: Mapping[Form, Sequence[tuple[str, ...]]] = {
        "symbol": symbols, "name": [()], "choice": [()],
    }  # fmt: skip
    for backend in backends:
        for revision in dict.fromkeys(revisions):
            for form, decoding in _DECODINGS[backend].items():
                for offered in offers[form]:
                    yield PromptBuilder.for_label_set(
                        label_set, offered, model=config.model, revision=revision, decoding=decoding
                    )
