"""What is written must not depend on when a question was asked."""

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.schemas import ANSWER, STAGE_COLUMNS

KEPT_SOURCES = ("cache", "previous")
"""What `answers.source` says of an answer that was not asked for now."""


def normalise_sources(table: pa.Table) -> pa.Table:
    """Say `llm` of every answer, also of those from the answer cache or from a previous run.

    Until here `answers.source` tells what was asked in this run from what was not, and it is
    counted. A file says whose word an answer is, and that is the LLM's either way; so a second run
    over the same documents writes the same bytes.
    """
    answers = table["answers"].combine_chunks()
    flat = answers.flatten()
    sources = flat.field("source")
    was_kept = pc.is_in(sources, pa.array(KEPT_SOURCES))
    if not pc.any(was_kept).as_py():
        return table
    columns = [flat.field(index) for index in range(ANSWER.num_fields)]
    columns[ANSWER.get_field_index("source")] = pc.if_else(was_kept, "llm", sources)
    fields = [ANSWER.field(index) for index in range(ANSWER.num_fields)]
    normalised = pa.StructArray.from_arrays(columns, fields=fields, mask=flat.is_null())
    offsets = pc.subtract(answers.offsets, answers.offsets[0])
    lists = pa.ListArray.from_arrays(offsets, normalised, type=STAGE_COLUMNS["answers"])
    place = table.schema.get_field_index("answers")
    return table.set_column(place, table.schema.field(place), lists)
