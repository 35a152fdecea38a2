import pyarrow as pa

from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.normalise_sources import settle_sources


def answer(source):
    probs = [0.5, 0.25, 0.25]
    return {"verdict": "label", "label": "PER", "probs": probs, "key": f"k-{source}",
            "source": source, "prompt_tokens": 3}  # fmt: skip


ROWS = [[answer("ledger"), None, answer("llm")], [], [None], [answer("ledger")]]


def table(rows):
    return pa.table(
        {"doc_id": [str(n) for n in range(len(rows))],
         "answers": pa.array(rows, STAGE_COLUMNS["answers"])}
    )  # fmt: skip


def settled(rows):
    return [[found and {**found, "source": "llm"} for found in row] for row in rows]


def test_every_answer_is_the_llms_and_nothing_else_changes():
    result = settle_sources(table(ROWS))
    assert result["answers"].to_pylist() == settled(ROWS)
    assert result.schema.field("answers").type == STAGE_COLUMNS["answers"]
    assert result["doc_id"].to_pylist() == ["0", "1", "2", "3"]


def test_slices_and_chunks_are_settled_like_the_whole():
    for offset in range(len(ROWS)):
        for end in range(offset, len(ROWS) + 1):
            part = table(ROWS).slice(offset, end - offset)
            assert settle_sources(part)["answers"].to_pylist() == settled(ROWS[offset:end])
    chunks = pa.concat_tables([table(ROWS[:2]), table(ROWS[2:])])
    assert settle_sources(chunks)["answers"].to_pylist() == settled(ROWS)


def test_a_table_without_ledger_answers_is_left_as_it_is():
    asked = table([[answer("llm"), None], []])
    assert settle_sources(asked) is asked
