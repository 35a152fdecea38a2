"""Sources of answers as they are written, whether or not this run asked the question."""

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.schemas import with_field

KEPT_SOURCES = ("cache", "previous")
"""What `answers.source` says of an answer that was not asked for now."""


def normalise_sources(table: pa.Table) -> pa.Table:
    """Set the source of every answer to `llm`, also of those from the answer cache or another run.

    Before this, `answers.source` tells which questions this run asked, for its counters. In a file
    the source names the model that answered, which is the LLM in each case, so that a second run
    over the same documents writes the same bytes.
    """
    answers = table["answers"].combine_chunks()
    sources = answers.flatten().field("source")
    was_kept = pc.is_in(sources, pa.array(KEPT_SOURCES))
    if not pc.any(was_kept).as_py():
        return table
    normalised = with_field(answers, "source", pc.if_else(was_kept, "llm", sources))
    place = table.schema.get_field_index("answers")
    return table.set_column(place, table.schema.field(place), normalised)
