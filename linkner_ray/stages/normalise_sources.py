"""What is written must not depend on when a question was asked."""

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.schemas import with_field

KEPT_SOURCES = ("cache", "previous")
"""What `answers.source` says of an answer that was not asked for now."""


def normalise_sources(table: pa.Table) -> pa.Table:
    """Say `llm` of every answer, also of those from the answer cache or from a previous run.

    Until here `answers.source` tells what was asked in this run from what was not, and it is
    counted. A file says whose word an answer is, and that is the LLM's either way; so a second run
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
