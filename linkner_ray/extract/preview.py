"""`linkner preview`: a few pages of an input with their entities, as one HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import ExtractConfig, InputConfig
from linkner_ray.errors import ConfigError, counted
from linkner_ray.readers import check_sources, list_sources
from linkner_ray.readers.sampling import draw_sample
from linkner_ray.runs.units import Source
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

    The output of the config is not touched. Unless `ask`, the local model decides alone.

    Raises:
        ConfigError: If a path matches nothing, the input has no documents, or there is no
            checkpoint.
        StartupError: If the checkpoint or the LLM does not load.
    """
    if not config.recognize.checkpoint:
        raise ConfigError("recognize.checkpoint is not set; give a folder written by `train`")
    local_checkpoint(config.recognize.checkpoint)
    sources = list(list_sources(config.input))
    documents = _draw(sources, config.input, pages=pages, seed=seed)
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
    models = config.recognize.checkpoint + (f" and {config.llm.model}." if ask else ", no LLM.")
    return _render(
        table, linkner.label_set.ids, f"{counted(len(sources), 'shard')}", models, notes=notes
    )


def _draw(sources: Sequence[Source], config: InputConfig, *, pages: int, seed: int) -> pa.Table:
    check_sources(sources, config)
    samples = draw_sample(sources, config, documents=pages, seed=seed)
    documents = _evenly([sample.table for sample in samples], pages)
    if not documents.num_rows:
        raise ConfigError(
            f"no documents; {counted(len(samples), 'shard')} looked into, such as "
            f"{sources[0].path}; is input.text_column right?"
        )
    return documents


def _render(
    table: pa.Table, labels: tuple[str, ...], shards: str, models: str, *, notes: tuple[str, ...]
) -> Preview:
    from linkner_ray.reporting.preview_page import render_preview

    columns = ["doc_id", "url", "text", "entities", "routes", "candidates", "answers"]
    rows = table.select(columns).to_pylist()
    for row in rows:
        row["num_routed"] = row["routes"].count("llm")
    asked = pc.is_in(pc.list_flatten(table["routes"]), pa.array(ASKED_ROUTES))
    num_entities = sum(len(row["entities"]) for row in rows)
    found = (
        f"{counted(len(rows), 'page')} of {shards}, {counted(num_entities, 'entity')} by {models}"
    )
    return Preview(
        html=render_preview(rows, labels, notes=(found, *notes)),
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
