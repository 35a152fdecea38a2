"""Words that stand for the options in replies of which only the first token is looked at."""

import re
from collections import Counter
from collections.abc import Sequence

from linkner_ray.errors import StartupError
from linkner_ray.labels import NON_ENTITY, LabelSet
from linkner_ray.llm.answers import NON_ENTITY_NAME, class_names
from linkner_ray.llm.chat import AnswerSymbols, PromptEncoder
from linkner_ray.llm.prompts import SYMBOL_ALPHABETS

_NON_ENTITY_WORDS = (NON_ENTITY_NAME, "none", NON_ENTITY_NAME.capitalize(), "nothing")

_WORD = re.compile(r"\w{4,}")
"""A word of a description that may say what it is about."""


def choose_names(encoder: PromptEncoder, label_set: LabelSet) -> AnswerSymbols:
    """Find a word for each option whose first token no other one has.

    That is its name, or else the first of these: its id in small letters, its name with a capital,
    other words of its name, words of its description alone, a letter or digit.

    Raises:
        StartupError: If there are more options than first tokens.
    """
    wishes = [*_label_words(label_set), _NON_ENTITY_WORDS]
    names = [words[0] for words in wishes]
    found = [
        chosen
        for lead in encoder.leads
        if (chosen := _choose(encoder, label_set, wishes, lead=lead)) is not None
    ]
    if not found:
        raise StartupError(
            f"{encoder.name}: the tokenizer has no {len(wishes)} words that begin with different "
            "tokens at the start of a reply (names, their words, letters and digits were tried); "
            "set llm.answer_form = choice, or use a label set with fewer labels"
        )
    return max(found, key=lambda chosen: sum(map(str.__eq__, chosen.symbols, names)))


def _label_words(label_set: LabelSet) -> list[tuple[str, ...]]:
    """What each label may be called, the best first."""
    described = [dict.fromkeys(_WORD.findall(label.description)) for label in label_set.labels]
    counts = Counter(word.casefold() for words in described for word in words)
    return [
        (
            label.name,
            label.id.lower(),
            label.name[:1].upper() + label.name[1:],
            *label.name.split()[1:],
            *(word for word in words if counts[word.casefold()] == 1),
        )
        for label, words in zip(label_set.labels, described, strict=True)
    ]


def _choose(
    encoder: PromptEncoder,
    label_set: LabelSet,
    wishes: Sequence[Sequence[str]],
    *,
    lead: str,
) -> AnswerSymbols | None:
    """Names first, then a substitute for each that is left; None if one finds nothing."""
    class_of = class_names(label_set)
    class_ids = [*label_set.ids, NON_ENTITY]
    characters = [character for alphabet in SYMBOL_ALPHABETS for character in alphabet]
    chosen: dict[int, tuple[str, int]] = {}
    tokens: set[int] = set()
    names = [(index, words[0]) for index, words in enumerate(wishes)]
    others = [(i, word) for i, words in enumerate(wishes) for word in (*words[1:], *characters)]
    for index, word in (*names, *others):
        if index in chosen or class_of.get(word.casefold(), class_ids[index]) != class_ids[index]:
            continue
        ids = encoder.reply_ids(lead + word)
        if ids and ids[0] not in tokens:
            chosen[index] = (word, ids[0])
            tokens.add(ids[0])
    if len(chosen) < len(wishes):
        return None
    words, token_ids = zip(*(chosen[index] for index in range(len(wishes))), strict=True)
    return AnswerSymbols(words, token_ids)
