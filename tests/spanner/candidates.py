"""What a recognizer finds, one list of rows for each sentence."""

from typing import NamedTuple


class Candidate(NamedTuple):
    start_token: int
    end_token: int
    label: str
    probs: tuple[float, ...]
    uncertainty: float
    kind: str


def candidates_of(recognizer, sentences):
    table = recognizer.candidates(sentences)
    found = [[] for _ in sentences]
    spans, classes = table.spans, recognizer.model.label_set.classes
    for row, sentence in enumerate(spans.sentence):
        found[sentence].append(
            Candidate(
                start_token=int(spans.start_token[row]),
                end_token=int(spans.end_token[row]),
                label=classes[spans.label[row]],
                probs=tuple(spans.probs[row].tolist()),
                uncertainty=float(spans.uncertainty[row]),
                kind="predicted" if table.predicted[row] else "near_miss",
            )
        )
    return found
