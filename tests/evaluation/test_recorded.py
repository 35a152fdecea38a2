"""What a recorded LLM extracted from whole sentences, scored by hand."""

import json

import pytest

from linkner_ray.corpora.labelled import LabelledSentence, LabelledSpan
from linkner_ray.errors import DataError
from linkner_ray.evaluation.recorded import extraction_f1

SENTENCES = [
    LabelledSentence(("Ada", "met", "Bo"), (LabelledSpan(0, 1, "PER"), LabelledSpan(2, 3, "PER"))),
    LabelledSentence(("Paris\u2028", "\x85", "\x0c"), (LabelledSpan(0, 1, "LOC"),)),
]


def write(path, *lines):
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return str(path)


def recorded(number, sentence, entities):
    return {"index": number, "tokens": list(sentence.tokens), "entities": entities}


def test_extraction_is_scored_and_what_is_not_recorded_was_not_found(tmp_path):
    ada = recorded(0, SENTENCES[0], [[0, 1, "PER"], [1, 2, "LOC"]])
    # 1 right of 2 predicted and 3 gold; the second recording of a sentence does not count.
    path = write(tmp_path / "r.jsonl", ada, recorded(1, SENTENCES[0], []))
    assert extraction_f1(path, SENTENCES) == pytest.approx(2 / 5)
    assert extraction_f1(path, SENTENCES[1:]) is None


def test_a_line_of_the_file_ends_where_json_ends_and_not_inside_a_token(tmp_path):
    """U+2028 and U+0085 may stand in a string of JSON; for `str.splitlines` they end a line."""
    path = write(tmp_path / "r.jsonl", recorded(0, SENTENCES[1], [[0, 1, "LOC"]]))
    assert extraction_f1(path, SENTENCES[1:]) == 1.0


def test_a_key_given_twice_is_named_with_its_line(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(
        '{"index": 0, "tokens": ["Ada"], "entities": []}\n'
        '{"index": 1, "tokens": ["Bo"], "entities": [], "entities": [[0, 1, "PER"]]}\n'
    )
    with pytest.raises(DataError, match=r"r\.jsonl:2: key 'entities' is given twice"):
        extraction_f1(str(path), SENTENCES)
