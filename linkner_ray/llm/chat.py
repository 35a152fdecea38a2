"""From chat messages to token ids, such that no text from the web can open a turn.

A chat template turns messages into one string, and a tokenizer finds its control tokens anywhere in
that string, also in a page that happens to contain them. Here the template is rendered once around
placeholders. What it wrote around them becomes ids with control tokens recognised. The user's text,
and demonstrations, whose words are a corpus', become ids by a copy of the tokenizer that does not
know control tokens.
"""

import json
import logging
import re
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from linkner_ray.errors import StartupError
from linkner_ray.llm.prompts import SYMBOL_ALPHABETS

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

_PLACEHOLDER = "PLACEHOLDER-OF-THE-USER-TEXT-7d41c9"
_DEMONSTRATIONS = "PLACEHOLDER-OF-THE-DEMONSTRATIONS-5be207"

_TODAY = date(2026, 1, 1)
"""The date in a template that writes today's: a run of tomorrow is to ask the same question."""

_TEMPLATE_VARIABLES: dict[str, Any] = {
    "date_string": _TODAY.strftime("%d %b %Y"),  # Llama 3.1
    "strftime_now": _TODAY.strftime,  # Llama 3.2, Mistral, SmolLM 3
    "enable_thinking": False,  # Qwen 3, GLM, SmolLM 3: the first token is the answer
    "thinking": False,  # DeepSeek 3.1, Granite
}

_OPEN_THOUGHT = re.compile(r"([<\[])((?:think|thought|reason)\w*)([>\]])\s*$", re.IGNORECASE)
"""End of a prompt after which a model thinks first, such as that of DeepSeek R1."""

_ANCHOR = "A"
"""Stands before a text while it is encoded: some tokenizers put a space before whatever begins."""

_WORD = re.compile(r"\w+(?:[-.']\w+)*")

_PLAIN_END = "\n\nAnswer:"
"""What a prompt ends with where there is no chat template."""

_CACHED_FRAMES = 256


class AnswerSymbols(NamedTuple):
    """What stands for the options, and the token that each is, or begins with, in a reply."""

    symbols: tuple[str, ...]
    token_ids: tuple[int, ...]


class PromptEncoder:
    """Renders system and user message with a model's chat template, as token ids.

    A base model has no chat template: its prompts are the text of both messages and "Answer:".
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", *, name: str) -> None:
        """Check that the tokenizer can be used safely.

        Raises:
            StartupError: If the tokenizer is not a fast one, or its chat template fails or alters
                the text of messages.
        """
        self.name = name
        self._tokenizer = tokenizer
        if not getattr(tokenizer, "is_fast", False):
            raise StartupError(
                f"{name}: the tokenizer ({type(tokenizer).__name__}) is not a fast one; save the "
                "model with a tokenizer.json, or serve it and use llm.backend = openai"
            )
        if not tokenizer.chat_template:
            logger.warning(
                "%s: the tokenizer has no chat template, so prompts are plain text, as for a base "
                "model; if the model is instruction-tuned, add `chat_template` to its "
                "tokenizer_config.json",
                name,
            )
        self._closes_thought = False
        self._control = _copy(tokenizer)
        written = self._encode_control("".join(self._render("")))
        self.control_ids = _control_ids(tokenizer, written)
        """Ids that never stand for text of a user message."""

        self.leads = ("", " ") if tokenizer.chat_template else (" ", "")
        """What may come before the first word of a reply, the usual first."""

        _, self._end = self._render("Instructions.")
        self._end_ids = self._encode_control(self._end)
        self._plain = _copy(tokenizer, without=self.control_ids)
        self._frame = lru_cache(maxsize=_CACHED_FRAMES)(self._make_frame)

    def encode(self, fixed_part: str, user_message: str, *, demonstrations: str = "") -> list[int]:
        """Render one prompt, up to where the reply begins.

        Args:
            fixed_part: System message, ours.
            user_message: May hold any text from the web.
            demonstrations: End of the system message; may hold any text.

        Returns:
            Token ids; between those of the template stands no control token.
        """
        before, space, after = self._frame(fixed_part, demonstrations)
        return [*before, *self._encode_text(user_message, space=space), *after]

    def choose_symbols(self, count: int) -> AnswerSymbols:
        """Find symbols that are one token each where a reply begins.

        Raises:
            StartupError: If no alphabet suits the tokenizer.
        """
        for alphabet in SYMBOL_ALPHABETS:
            symbols = alphabet[:count]
            for lead in self.leads:
                replies = dict.fromkeys(self.reply_ids(lead + symbol) for symbol in symbols)
                token_ids = tuple(ids[0] for ids in replies if len(ids) == 1)
                if len(token_ids) == count:
                    return AnswerSymbols(tuple(symbols), token_ids)
        raise StartupError(
            f"{self.name}: the tokenizer has no {count} symbols that are one token each at the "
            "start of a reply (letters and digits were tried); use a model with a larger "
            "vocabulary, or a label set with fewer labels"
        )

    def reply_ids(self, reply: str) -> tuple[int, ...]:
        """Ids that a reply adds to a prompt; none where no reply can begin so.

        That is where its first token is no text but a blank or a control token, or belongs to the
        prompt's end as well.
        """
        ids = self._encode_control(self._end + reply)
        added = ids[len(self._end_ids) :]
        if ids[: len(self._end_ids)] != self._end_ids or not added:
            return ()
        is_text = added[0] not in self.control_ids and added[0] != self._tokenizer.unk_token_id
        return tuple(added) if is_text and self._control.decode(added[:1]).strip() else ()

    def _encode_control(self, text: str) -> list[int]:
        return self._control.encode(text, add_special_tokens=False).ids

    def _encode_text(self, text: str, *, space: str) -> list[int]:
        """Ids of a text behind white space."""
        ids = self._plain.encode(_ANCHOR + space + text, add_special_tokens=False).ids
        anchor = self._plain.encode(_ANCHOR, add_special_tokens=False).ids
        if space and ids[: len(anchor)] == anchor:
            ids = ids[len(anchor) :]
        else:
            ids = self._plain.encode(space + text, add_special_tokens=False).ids
        # A vocabulary may hold the very string of a control token; such an id is left out.
        return [token_id for token_id in ids if token_id not in self.control_ids]

    def _make_frame(
        self, fixed_part: str, demonstrations: str
    ) -> tuple[tuple[int, ...], str, tuple[int, ...]]:
        """Ids before the user's text, the white space that begins it, and the ids after it.

        White space belongs to the text behind it, since many tokenizers join it to the next word.
        """
        ids: list[int] = []
        if demonstrations:
            before, after = self._render(f"{fixed_part}\n\n{_DEMONSTRATIONS}")
            head, _, before = before.partition(_DEMONSTRATIONS)
            ids += self._encode_control(head.rstrip())
            ids += self._encode_text(demonstrations, space=head[len(head.rstrip()) :])
        else:
            before, after = self._render(fixed_part)
        ids += self._encode_control(before.rstrip())
        space = before[len(before.rstrip()) :]
        return tuple(ids), space, tuple(self._encode_control(after))

    def _render(self, fixed_part: str) -> tuple[str, str]:
        """What the template writes before and after the user's text.

        A template without a system role gets the fixed part at the head of the user message.
        """
        if not self._tokenizer.chat_template:
            is_marked = self._tokenizer.encode("")[:1] == [self._tokenizer.bos_token_id]
            begin = self._tokenizer.bos_token if is_marked else ""
            return f"{begin}{fixed_part}\n\n", _PLAIN_END
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
                return before, self._without_thought(after)
            problem = "alters or repeats the text of messages"
        raise StartupError(
            f"{self.name}: the chat template {problem}; give the model a template that writes "
            "each message once, as it is"
        )

    def _without_thought(self, after: str) -> str:
        """The end of a prompt with the thought closed that a template has opened there."""
        opened = _OPEN_THOUGHT.search(after)
        if opened is None:
            return after
        left, name, right = opened.groups()
        if not self._closes_thought:
            self._closes_thought = True
            logger.warning(
                "%s: the chat template begins replies with %s%s%s; it is closed at once, so that a "
                "reply begins with the answer",
                self.name, left, name, right,
            )  # fmt: skip
        return f"{after.rstrip()}\n\n{left}/{name}{right}\n\n"

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


def _copy(
    tokenizer: "PreTrainedTokenizerFast", *, without: frozenset[int] = frozenset()
) -> "Tokenizer":
    """Copy of a tokenizer that cuts nothing and that other threads cannot set up differently.

    The added tokens with the ids `without` are text to it like any other.
    """
    from tokenizers import Tokenizer

    inner = tokenizer.backend_tokenizer
    description = json.loads(inner.to_str())
    description |= {"truncation": None, "padding": None}
    vocabulary = inner.get_vocab(with_added_tokens=False)
    added = []
    for token in description["added_tokens"]:
        if token["id"] not in without:
            added.append(token)
        elif token["content"] not in vocabulary:
            # Ids are given out in turn, so another string takes its place; no text contains it.
            added.append(token | {"content": f"\0{_PLACEHOLDER}-{token['id']}"})
    return Tokenizer.from_str(json.dumps(description | {"added_tokens": added}))


def _control_ids(tokenizer: "PreTrainedTokenizerFast", written: Sequence[int]) -> frozenset[int]:
    """Ids of special tokens, and of added ones but for white space and words of a text.

    The unknown token stands for text, so it is none of them, unless it also begins or ends one. A
    word that the chat template writes around messages is one of them.
    """
    ids = set(tokenizer.all_special_ids)
    for token_id, token in tokenizer.added_tokens_decoder.items():
        # The line breaks of Gemma, for instance; SentencePiece writes a space as U+2581.
        is_space = not token.content.replace("\u2581", "").strip()
        is_word = _WORD.fullmatch(token.content) and token_id not in written
        if token.special or not (is_space or is_word):
            ids.add(token_id)
    if tokenizer.unk_token_id not in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        ids.discard(tokenizer.unk_token_id)
    return frozenset(ids)
