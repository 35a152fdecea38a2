"""Entities of texts, and the forms in which pandas, spaCy and displaCy take them."""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from linkner_ray.spans import RankedSpan, keep_flat

if TYPE_CHECKING:  # loaded where a table is wanted
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSpan:
    """A span of a text with a label.

    Attributes:
        start: First code point in the text.
        end: Code point after the last.
        text: The characters between them.
        label: Its type; of a near miss the most probable one that is not non-entity.
        score: Probability of the label, by the model that gave it.
        uncertainty: Of the local model, in [0, 1].
    """

    start: int
    end: int
    text: str
    label: str
    score: float
    uncertainty: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity(FoundSpan):
    """An entity of a text.

    Attributes:
        source: Model that decided: "local" or "llm"; or "same_name", the LLM on the same words
            elsewhere in the text.
        local_label: The local model's label; None for a near miss.
        llm_label: The LLM's label, "O" for non-entity; None without a readable answer.
    """

    source: str
    local_label: str | None
    llm_label: str | None


class _Doc(Protocol):
    """What is needed of a `spacy.tokens.Doc`."""

    text: str
    ents: Any

    def char_span(self, start_idx: int, end_idx: int, label: str, *, alignment_mode: str) -> Any:  # noqa: ANN401 - a spacy.tokens.Span
        """Tokens between two characters."""


DocT = TypeVar("DocT", bound=_Doc)


class TextEntities(list[Entity]):
    """The entities of one text, by position; none overlap."""

    def __init__(self, text: str, entities: Iterable[Entity]) -> None:
        """Keep the text beside its entities."""
        super().__init__(entities)
        self.text = text

    def to_displacy(self) -> dict[str, Any]:
        """The form that `displacy.render(..., style="ent", manual=True)` takes."""
        ents = [{"start": one.start, "end": one.end, "label": one.label} for one in self]
        return {"text": self.text, "ents": ents, "title": None}

    def to_spacy(self, doc: DocT) -> DocT:
        """Set `doc.ents` to these entities; returns the same `spacy.tokens.Doc`.

        A token that an entity covers in part belongs to it whole. Of two entities in one token the
        more probable stays, and a warning counts the others.

        Raises:
            ValueError: If it is of another text.
        """
        if doc.text != self.text:
            raise ValueError(
                f"the Doc's text is '{doc.text:.40}', that of the entities '{self.text:.40}'; make "
                "the Doc from that text"
            )
        spans = [
            doc.char_span(one.start, one.end, label=one.label, alignment_mode="expand")
            for one in self
        ]
        ranked = [
            RankedSpan(span.start, span.end, one.label, (one.score,))
            for span, one in zip(spans, self, strict=True)
        ]
        kept = keep_flat(ranked)
        if len(kept) < len(spans):
            logger.warning(
                "%d of %d entities share a token with a more probable one and are not in doc.ents",
                len(spans) - len(kept), len(spans),
            )  # fmt: skip
        doc.ents = [spans[index] for index in kept]
        return doc


class Predictions(list[TextEntities]):
    """The entities of each text, in the order of the texts."""

    def to_pandas(self) -> "pd.DataFrame":
        """A table with a row for each entity; `text_index` is the place of its text in the list."""
        import pandas as pd

        columns = ["text_index", *(field.name for field in fields(Entity))]
        rows = [
            {"text_index": index, **asdict(entity)}
            for index, entities in enumerate(self)
            for entity in entities
        ]
        return pd.DataFrame(rows, columns=columns)

    def to_displacy(self) -> list[dict[str, Any]]:
        """The form of each text that `displacy.render(..., style="ent", manual=True)` takes."""
        return [entities.to_displacy() for entities in self]
