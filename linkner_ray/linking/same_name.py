"""Candidates of the same words in one document, of which not all are asked about.

A name nearly always means one thing throughout a document (Gale et al., 1992, One Sense Per
Discourse), so the answer about one of its places counts for the others.
"""

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linkner_ray.errors import ContractError
from linkner_ray.schemas import LLM_ROUTES, list_offsets

Name = tuple[int, str]
"""Row of a document and words of a span, white space made one."""


def names_at(table: pa.Table, places: NDArray[np.integer]) -> list[Name]:
    """Names of some candidates.

    Args:
        table: With `text` and `candidates`.
        places: Of the candidates among those of all documents.
    """
    candidates = table["candidates"].combine_chunks()
    rows = np.searchsorted(list_offsets(candidates), places, side="right") - 1
    chosen = candidates.flatten().take(pa.array(places))
    starts, ends = (chosen.field(name).to_pylist() for name in ("start", "end"))
    texts = table["text"].to_pylist()
    return [
        (row, " ".join(texts[row][start:end].split()))
        for row, start, end in zip(rows.tolist(), starts, ends, strict=True)
    ]


def share_answers(table: pa.Table, answers: pa.StructArray) -> pa.StructArray:
    """Give each candidate of route `same_name` the answer that most questions about it got.

    Of several such answers, and where none could be read, the first of the document counts.

    Args:
        table: With `text`, `candidates` and `routes`.
        answers: Of the candidates of all documents, null where none was asked for.

    Raises:
        ContractError: If none of the same name was asked about.
    """
    routes = pc.list_flatten(table["routes"]).combine_chunks()
    likes = np.flatnonzero(pc.equal(routes, "same_name").to_numpy(zero_copy_only=False))
    if not len(likes):
        return answers
    decided = np.flatnonzero(pc.is_in(routes, pa.array(LLM_ROUTES)).to_numpy(zero_copy_only=False))
    name_of = dict(zip(decided.tolist(), names_at(table, decided), strict=True))
    asked: dict[Name, list[int]] = defaultdict(list)
    for place in np.setdiff1d(decided, likes).tolist():
        asked[name_of[place]].append(place)
    said = list(
        zip(*(pc.struct_field(answers, n).to_pylist() for n in ("verdict", "label")), strict=True)
    )
    places = np.arange(len(answers))
    for like in likes.tolist():
        if name_of[like] not in asked:
            raise ContractError(
                f"a candidate of route same_name, {name_of[like][1]!r}, has no answer to share"
            )
        places[like] = _most_said(asked[name_of[like]], said)
    return answers.take(pa.array(places))


def _most_said(asked: list[int], said: list[tuple[str, str | None]]) -> int:
    """The first place among those asked about whose answer is the most frequent readable one."""
    readable = [place for place in asked if said[place][0] in ("label", "non_entity")]
    if not readable:
        return asked[0]
    most = Counter(said[place] for place in readable).most_common(1)[0][0]
    return next(place for place in readable if said[place] == most)
