"""Tokens to subwords: what the encoder reads, and where each token lies in it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubwordSentence:
    """The subwords of one sentence, special tokens left out.

    Attributes:
        ids: Vocabulary ids. Shape (L,).
        first: Position of the first subword of each token. Shape (T,).
        last: Position of the last subword of each token. Shape (T,).
    """

    ids: IntArray
    first: IntArray
    last: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialIds:
    """Vocabulary ids that are not text.

    Attributes:
        prefix: Before every window, such as [CLS].
        suffix: After every window, such as [SEP].
        pad: Fills a batch up; masked everywhere.
        fill: Stands for a token that gives no subword, such as a control character.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad: int
    fill: int

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """As `dataclasses.asdict` and JSON left them."""
        return cls(**{**tree, "prefix": tuple(tree["prefix"]), "suffix": tuple(tree["suffix"])})


class SubwordEncoder:
    """A Hugging Face fast tokenizer that is given tokens, never running text.

    Truncation and padding stored in the tokenizer are switched off, and a tokenizer that marks the
    beginning of a word by a leading space is made to mark it before every token.

    Args:
        tokenizer: Any tokenizer of the `tokenizers` library.
        special: Ids that are not text.
        max_token_subwords: Further subwords of one token are dropped, so a token always fits a
            window.
    """

    def __init__(
        self, tokenizer: Tokenizer, special: SpecialIds, *, max_token_subwords: int
    ) -> None:
        self.tokenizer = _with_word_starts(tokenizer)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.special = special
        self.max_token_subwords = max_token_subwords

    def __call__(self, sentences: Sequence[Sequence[str]]) -> list[SubwordSentence]:
        """Encode sentences; every token gets at least one subword."""
        encodings = self.tokenizer.encode_batch(
            list(sentences), is_pretokenized=True, add_special_tokens=False
        )
        num_tokens = np.fromiter(map(len, sentences), np.int64, len(sentences))
        num_ids = np.fromiter(map(len, encodings), np.int64, len(encodings))
        ids = _flat((encoding.ids for encoding in encodings), num_ids.sum())
        tokens = _flat((encoding.word_ids for encoding in encodings), num_ids.sum())
        token_offsets = np.concatenate([[0], np.cumsum(num_tokens)])
        tokens += np.repeat(token_offsets[:-1], num_ids)
        ids, tokens = self._complete(ids, tokens, int(token_offsets[-1]))

        every_token = np.arange(token_offsets[-1])
        first = np.searchsorted(tokens, every_token, side="left")
        last = np.searchsorted(tokens, every_token, side="right") - 1
        bounds = np.searchsorted(tokens, token_offsets)
        return [
            SubwordSentence(
                ids=ids[bounds[i] : bounds[i + 1]],
                first=first[token_offsets[i] : token_offsets[i + 1]] - bounds[i],
                last=last[token_offsets[i] : token_offsets[i + 1]] - bounds[i],
            )
            for i in range(len(sentences))
        ]

    def _complete(
        self, ids: IntArray, tokens: IntArray, num_tokens: int
    ) -> tuple[IntArray, IntArray]:
        """Give each token between one and `max_token_subwords` subwords."""
        counts = np.bincount(tokens, minlength=num_tokens)
        if num_tokens and counts.max() > self.max_token_subwords:
            place_in_token = np.arange(len(tokens)) - (np.cumsum(counts) - counts)[tokens]
            kept = place_in_token < self.max_token_subwords
            ids, tokens = ids[kept], tokens[kept]
        missing = np.flatnonzero(counts == 0)
        if len(missing):
            places = np.searchsorted(tokens, missing)
            ids = np.insert(ids, places, self.special.fill)
            tokens = np.insert(tokens, places, missing)
        return ids, tokens


def special_ids(tokenizer: Tokenizer) -> SpecialIds:
    """Read the ids that are not text from a tokenizer's own template and vocabulary."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    probe = tokenizer.encode(["a"], is_pretokenized=True)
    text = [index for index, special in enumerate(probe.special_tokens_mask) if not special]
    vocabulary = tokenizer.get_vocab()
    pad = _first_known(vocabulary, ("[PAD]", "<pad>", "<|padding|>", "<|endoftext|>", "</s>"))
    fill = _first_known(vocabulary, ("[UNK]", "<unk>", "[MASK]", "<mask>"))
    begin, end = (text[0], text[-1] + 1) if text else (1, 1)
    return SpecialIds(
        prefix=tuple(probe.ids[:begin]),
        suffix=tuple(probe.ids[end:]),
        pad=0 if pad is None else pad,
        fill=(pad or 0) if fill is None else fill,
    )


def _first_known(vocabulary: dict[str, int], names: Sequence[str]) -> int | None:
    return next((vocabulary[name] for name in names if name in vocabulary), None)


def _flat(lists: Any, count: int) -> IntArray:  # noqa: ANN401 - iterable of lists
    return np.fromiter(chain.from_iterable(lists), np.int64, int(count))


def _with_word_starts(tokenizer: Tokenizer) -> Tokenizer:
    """A copy in which every token is read as the beginning of a word.

    Given tokens one by one, a byte-level tokenizer would otherwise read "Paris" as the tail of a
    longer word, which pretraining hardly ever showed it.
    """
    tree = json.loads(tokenizer.to_str())

    def visit(node: Any) -> None:  # noqa: ANN401 - any JSON value
        if isinstance(node, list):
            for child in node:
                visit(child)
        if isinstance(node, dict):
            if node.get("type") == "ByteLevel":
                node["add_prefix_space"] = True
            if node.get("type") == "Metaspace" and node.get("prepend_scheme") != "never":
                node["prepend_scheme"] = "always"
            visit(list(node.values()))

    visit(tree["pre_tokenizer"])
    return Tokenizer.from_str(json.dumps(tree))
