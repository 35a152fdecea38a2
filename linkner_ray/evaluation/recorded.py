"""A recorded LLM that extracted entities from whole sentences, scored by itself."""

from collections.abc import Sequence

from linkner_ray.corpora.labelled import LabelledSentence
from linkner_ray.corpora.scores import Entity, score_entities
from linkner_ray.llm.backends.replay import read_recorded


def extraction_f1(path: str, sentences: Sequence[LabelledSentence]) -> float | None:
    """Strict F1 of what the recorded LLM extracted, without a local model.

    A sentence that was not recorded, or whose reply could not be read, counts as one in which the
    LLM found nothing. Of a sentence that was recorded twice the first recording counts. None if the
    recording has none of the sentences, so that it is of another set.
    """
    recorded: dict[tuple[str, ...], set[Entity]] = {}
    for line in read_recorded(path):
        recorded.setdefault(tuple(line.tokens), set(line.entities or ()))
    if not any(one.tokens in recorded for one in sentences):
        return None
    found = [recorded.get(one.tokens, set()) for one in sentences]
    gold = [{(s.start_token, s.end_token, s.label) for s in one.spans} for one in sentences]
    return score_entities(gold, found).micro.f1
