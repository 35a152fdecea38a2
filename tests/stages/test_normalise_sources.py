import pyarrow as pa

from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.normalise_sources import normalise_sources


def answer(source):
    probs = [0.5, 0.25, 0.25]
    return {"verdict": "label", "label": "PER", "probs": probs, "key": f"k-{source}",
            "source": source, "prompt_tokens": 3}  # fmt: skip


ROWS = [[answer("cache"), None, answer("llm")], [], [None], [answer("cache")]]


def table(rows):
    return pa.table(
        {"doc_id": [str(n) for n in range(len(rows))],
         "answers": pa.array(rows, STAGE_COLUMNS["answers"])}
    )  # fmt: skip


def normalised(rows):
    return [[found and {**found, "source": "llm"} for found in row] for row in rows]


def test_every_answer_is_the_llms_and_nothing_else_changes():
    result = normalise_sources(table(ROWS))
    assert result["answers"].to_pylist() == normalised(ROWS)
    assert result.schema.field("answers").type == STAGE_COLUMNS["answers"]
    assert result["doc_id"].to_pylist() == ["0", "1", "2", "3"]


def test_slices_and_chunks_are_normalised_like_the_whole():
    for offset in range(len(ROWS)):
        for end in range(offset, len(ROWS) + 1):
            part = table(ROWS).slice(offset, end - offset)
            assert normalise_sources(part)["answers"].to_pylist() == normalised(ROWS[offset:end])
    chunks = pa.concat_tables([table(ROWS[:2]), table(ROWS[2:])])
    assert normalise_sources(chunks)["answers"].to_pylist() == normalised(ROWS)


def test_a_table_without_cache_answers_is_left_as_it_is():
    asked = table([[answer("llm"), None], []])
    assert normalise_sources(asked) is asked
