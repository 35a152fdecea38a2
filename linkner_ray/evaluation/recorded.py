"""A recorded LLM that extracted entities from whole sentences, scored by itself."""

import json
from collections.abc import Sequence

from linkner_ray.corpora.labelled import LabelledSentence
from linkner_ray.corpora.scores import Entity, score_entities
from linkner_ray.llm.model_identity import read_recording


def extraction_f1(path: str, sentences: Sequence[LabelledSentence]) -> float | None:
    """Strict F1 of what the recorded LLM extracted, without a local model.

    Args:
        path: JSONL with `tokens` and `entities` of each sentence; a sentence it lacks, or whose
            reply could not be read, counts as one in which the LLM found nothing.
        sentences: Labelled.

    Returns:
        None if the recording has none of the sentences, so that it is of another set.
    """
    recorded: dict[tuple[str, ...], set[Entity]] = {}
    for line in read_recording(path).decode("utf-8").splitlines():
        one = json.loads(line)
        entities = {(start, end, label) for start, end, label in one["entities"] or ()}
        recorded.setdefault(tuple(one["tokens"]), entities)
    if not any(one.tokens in recorded for one in sentences):
        return None
    found = [recorded.get(one.tokens, set()) for one in sentences]
    gold = [{(s.start_token, s.end_token, s.label) for s in one.spans} for one in sentences]
    return score_entities(gold, found).micro.f1
