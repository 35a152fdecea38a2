"""From chat messages to token ids, such that no text from the web can open a turn.

A chat template turns messages into one string, and a tokenizer finds its control tokens anywhere in
that string, also in a page that happens to contain them. Here the template is rendered once around
placeholders. What it wrote around them becomes ids with control tokens recognised; the user's text,
and demonstrations, whose words are a corpus', become ids by a copy of the tokenizer that has never
heard of control tokens.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from linkner_ray.errors import StartupError
from linkner_ray.llm.prompts import SYMBOL_ALPHABETS

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

_PLACEHOLDER = "PLACEHOLDER-OF-THE-USER-TEXT-7d41c9"
_DEMONSTRATIONS = "PLACEHOLDER-OF-THE-DEMONSTRATIONS-5be207"

_TEMPLATE_VARIABLES: dict[str, Any] = {
    "date_string": "01 Jan 2026",  # Llama 3 writes today's date: a rerun would ask another question
    "enable_thinking": False,  # Qwen 3 and others: the first token is the answer
}

_CACHED_FRAMES = 256


class AnswerSymbols(NamedTuple):
    """Symbols of the options, and the one token each is where a reply begins."""

    symbols: tuple[str, ...]
    token_ids: tuple[int, ...]


class PromptEncoder:
    """Renders system and user message with a model's chat template, as token ids."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", *, name: str) -> None:
        """Check that the tokenizer can be used safely.

        Args:
            tokenizer: A fast tokenizer of Hugging Face transformers, with a chat template.
            name: What to call the model in errors.

        Raises:
            StartupError: If the tokenizer is not a fast one, or its chat template is missing,
                fails, or alters the text of messages.
        """
        self._name = name
        self._tokenizer = tokenizer
        if not getattr(tokenizer, "is_fast", False):
            raise StartupError(
                f"{name}: the tokenizer ({type(tokenizer).__name__}) is not a fast one; save the "
                "model with a tokenizer.json, or serve it and use llm.backend = openai"
            )
        if not tokenizer.chat_template:
            raise StartupError(
                f"{name}: the tokenizer has no chat template; add `chat_template` to its "
                "tokenizer_config.json, or choose an instruction-tuned model"
            )
        self._control = _copy(tokenizer, recognise_control=True)
        self._plain = _copy(tokenizer, recognise_control=False)
        self.control_ids = _control_ids(tokenizer)
        """Ids that never stand for text of a user message."""

        self._frame = lru_cache(maxsize=_CACHED_FRAMES)(self._make_frame)
        self._frame("Instructions.", "")

    def encode(self, fixed_part: str, user_message: str, *, demonstrations: str = "") -> list[int]:
        """Render one prompt, up to where the reply begins.

        Args:
            fixed_part: System message, ours.
            user_message: May hold any text from the web.
            demonstrations: End of the system message; may hold any text.

        Returns:
            Token ids; between those of the template stands no control token.
        """
        before, after = self._frame(fixed_part, demonstrations)
        return [*before, *self._encode_text(user_message), *after]

    def choose_symbols(self, count: int) -> AnswerSymbols:
        """Find symbols that are one token each where a reply begins.

        Args:
            count: Number of options.

        Raises:
            StartupError: If no alphabet suits the tokenizer.
        """
        _, after = self._render("Instructions.")
        for alphabet in SYMBOL_ALPHABETS:
            symbols = alphabet[:count]
            for lead in ("", " "):
                token_ids = self._single_tokens(after, [lead + symbol for symbol in symbols])
                if len(token_ids) == count:
                    return AnswerSymbols(tuple(symbols), token_ids)
        raise StartupError(
            f"{self._name}: the tokenizer has no {count} symbols that are one token each at the "
            "start of a reply (letters and digits were tried); use a model with a larger "
            "vocabulary, or a label set with fewer labels"
        )

    def _single_tokens(self, after: str, words: Sequence[str]) -> tuple[int, ...]:
        """Ids of the words that add exactly one token of their own to a prompt's end."""
        base = self._encode_control(after)
        unusable = {*self.control_ids, self._tokenizer.unk_token_id}
        found: dict[int, None] = {}
        for word in words:
            *head, last = self._encode_control(after + word)
            if head == base and last not in unusable:
                found[last] = None
        return tuple(found)

    def _encode_control(self, text: str) -> list[int]:
        return self._control.encode(text, add_special_tokens=False).ids

    def _encode_text(self, text: str) -> list[int]:
        ids = self._plain.encode(text, add_special_tokens=False).ids
        # A vocabulary may hold the very string of a control token; such an id is left out.
        return [token_id for token_id in ids if token_id not in self.control_ids]

    def _make_frame(
        self, fixed_part: str, demonstrations: str
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids before and after the user's text."""
        if not demonstrations:
            before, after = self._render(fixed_part)
            return tuple(self._encode_control(before)), tuple(self._encode_control(after))
        before, after = self._render(f"{fixed_part}\n\n{_DEMONSTRATIONS}")
        head, _, tail = before.partition(_DEMONSTRATIONS)
        ids = (
            *self._encode_control(head),
            *self._encode_text(demonstrations),
            *self._encode_control(tail),
        )
        return ids, tuple(self._encode_control(after))

    def _render(self, fixed_part: str) -> tuple[str, str]:
        """What the template writes before and after the user's text.

        A template without a system role gets the fixed part at the head of the user message.
        """
        separate = [("system", fixed_part), ("user", _PLACEHOLDER)]
        merged = [("user", f"{fixed_part}\n\n{_PLACEHOLDER}")]
        problem = ""
        for messages in (separate, merged):
            try:
                rendered = self._apply_template(messages)
            except ValueError as error:
                problem = f"fails: {error}"
                continue
            before, placeholder, after = rendered.partition(_PLACEHOLDER)
            if placeholder and fixed_part in before and _PLACEHOLDER not in after:
                return before, after
            problem = "alters or repeats the text of messages"
        raise StartupError(
            f"{self._name}: the chat template {problem}; give the model a template that writes "
            "each message once, as it is"
        )

    def _apply_template(self, messages: Sequence[tuple[str, str]]) -> str:
        """Render messages as text.

        Raises:
            ValueError: If the template refuses them or cannot be rendered.
        """
        from jinja2 import TemplateError

        conversation = [{"role": role, "content": content} for role, content in messages]
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    conversation, tokenize=False, add_generation_prompt=True, **_TEMPLATE_VARIABLES
                )
            )
        except TemplateError as error:
            raise ValueError(str(error)) from error


def _copy(tokenizer: "PreTrainedTokenizerFast", *, recognise_control: bool) -> "Tokenizer":
    """Copy of a tokenizer that cuts nothing and that other threads cannot set up differently.

    Without `recognise_control` a control string is text to it like any other.
    """
    from tokenizers import Tokenizer

    description = json.loads(tokenizer.backend_tokenizer.to_str())
    description |= {"truncation": None, "padding": None}
    if not recognise_control:
        description["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(description))


def _control_ids(tokenizer: "PreTrainedTokenizerFast") -> frozenset[int]:
    """Ids of all special and added tokens.

    The unknown token stands for text, so it is none of them, unless it also begins or ends one.
    """
    ids = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    if tokenizer.unk_token_id not in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        ids.discard(tokenizer.unk_token_id)
    return frozenset(ids)
