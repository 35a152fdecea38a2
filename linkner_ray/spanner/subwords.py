"""Words to subwords, which is what an encoder reads.

Letters: U words.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
from tokenizers import Tokenizer

from linkner_ray.spanner.tokens import SubwordTable

MAX_KNOWN_WORDS = 2**17
"""Words whose subwords are remembered; some 45 MB."""


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

    @property
    def count(self) -> int:
        """Of those around each window."""
        return len(self.prefix) + len(self.suffix)

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """As `dataclasses.asdict` and JSON left them."""
        return cls(**{**tree, "prefix": tuple(tree["prefix"]), "suffix": tuple(tree["suffix"])})


class SubwordEncoder:
    """A Hugging Face fast tokenizer that is given words, never running text.

    Truncation and padding stored in the tokenizer are switched off, a word such as "[SEP]" is text
    like any other, and a tokenizer that marks the beginning of a word by a leading space is made to
    mark it before every one.

    Args:
        tokenizer: Any tokenizer of the `tokenizers` library.
        special: Ids that are not text.
        max_token_subwords: Further subwords of one word are dropped, so it always fits a window.
    """

    def __init__(
        self, tokenizer: Tokenizer, special: SpecialIds, *, max_token_subwords: int
    ) -> None:
        self.tokenizer = _with_word_starts(tokenizer)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True
        self.special = special
        self.max_token_subwords = max_token_subwords

        self._known: dict[str, list[int]] = {}

    def __call__(self, words: Sequence[str]) -> SubwordTable:
        """Encode words, each by itself; every one gets at least one subword.

        Words of earlier calls are remembered: most of a text stand in the texts before it.
        """
        known = self._known
        new = [word for word in words if word not in known]
        if len(known) + len(new) > MAX_KNOWN_WORDS:
            known.clear()
            new = list(words)
        encodings = self.tokenizer.encode_batch_fast(
            [[word] for word in new], is_pretokenized=True, add_special_tokens=False
        )
        for word, encoding in zip(new, encodings, strict=True):
            known[word] = encoding.ids[: self.max_token_subwords] or [self.special.fill]
        pieces = [known[word] for word in words]
        first = np.cumsum([0, *map(len, pieces)])
        ids = np.fromiter(chain.from_iterable(pieces), np.int64, int(first[-1]))
        return SubwordTable(ids=ids, first=first)


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
