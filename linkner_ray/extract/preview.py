"""`linkner preview`: a few pages of an input with their entities, as one HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import ExtractConfig
from linkner_ray.errors import ConfigError, counted
from linkner_ray.readers import check_sources, list_sources
from linkner_ray.readers.sampling import draw_sample
from linkner_ray.schemas import ASKED_ROUTES
from linkner_ray.spanner.checkpoint import local_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The HTML page, what it shows in numbers, and what a run would do otherwise."""

    html: str
    pages: int
    entities: int
    questions: int
    """Candidates that the LLM was asked about."""

    notes: tuple[str, ...] = ()
    """Sentences on what a run of this config would do otherwise."""


def preview_input(
    config: ExtractConfig, *, pages: int = 20, seed: int = 0, ask: bool = False
) -> Preview:
    """Draw pages of an input, send them through the stages here, and render them.

    Args:
        config: As for an extraction; its output is not touched.
        pages: Documents to show.
        seed: Of the choice of shards and documents.
        ask: Whether to start the LLM of the config; else the local model decides alone.

    Raises:
        ConfigError: If a path matches nothing, the input has no documents, or there is no
            checkpoint.
        StartupError: If the checkpoint or the LLM does not load.
    """
    if not config.recognize.checkpoint:
        raise ConfigError("recognize.checkpoint is not set; give a folder written by `train`")
    local_checkpoint(config.recognize.checkpoint)
    sources = list(list_sources(config.input))
    check_sources(sources, config.input)
    samples = draw_sample(sources, config.input, documents=pages, seed=seed)
    documents = _evenly([sample.table for sample in samples], pages)
    if not documents.num_rows:
        raise ConfigError(
            f"no documents; {counted(len(samples), 'shard')} looked into, such as "
            f"{sources[0].path}; is input.text_column right?"
        )
    routing = config.routing
    notes: tuple[str, ...] = ()
    if routing.max_calls is not None:
        # A number of calls is divided over all shards, and these pages are no part of a run.
        routing = routing.model_copy(update={"budget": None})
        if ask:
            notes = (
                f"routing.budget = '{config.routing.budget}' is for a whole run and does not count "
                "here: every candidate from the threshold up was asked about",
            )
    from linkner_ray.api import LinkNER  # once all paths are known to be right

    with LinkNER.from_pretrained(
        config.recognize.checkpoint,
        llm=config.llm if ask else None,
        recognize=config.recognize,
        routing=routing,
        cache=config.cache if ask else None,
        sentences=config.sentences,
    ) as linkner:
        table = linkner.run(documents)
    rows = table.select(
        ["doc_id", "url", "text", "entities", "routes", "candidates", "answers"]
    ).to_pylist()
    for row in rows:
        row["num_routed"] = row["routes"].count("llm")
    asked = pc.is_in(pc.list_flatten(table["routes"]), pa.array(ASKED_ROUTES))
    num_entities = sum(len(row["entities"]) for row in rows)
    from linkner_ray.reporting.preview_page import render_preview

    html = render_preview(
        rows,
        linkner.label_set.ids,
        notes=(
            f"{counted(len(rows), 'page')} of {counted(len(sources), 'shard')}, "
            f"{counted(num_entities, 'entity')} by "
            f"{config.recognize.checkpoint}"
            + (f" and {config.llm.model}." if ask else ", no LLM."),
            *notes,
        ),
    )
    return Preview(
        html=html,
        pages=len(rows),
        entities=num_entities,
        questions=pc.sum(asked).as_py() or 0,
        notes=notes,
    )


def _evenly(tables: Sequence[pa.Table], wanted: int) -> pa.Table:
    """So many documents, taken one from each shard in turn, in the order of the shards."""
    turns = sorted(
        (turn, shard) for shard, table in enumerate(tables) for turn in range(table.num_rows)
    )
    chosen = turns[:wanted]
    return pa.concat_tables(
        table.slice(0, sum(shard == number for _, shard in chosen))
        for number, table in enumerate(tables)
    )
