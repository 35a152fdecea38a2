import pytest

from linkner_ray.corpora.scores import score_entities
from linkner_ray.reporting.tables import (
    markdown_pairs,
    markdown_table,
    markdown_text,
    scores_table,
)


def test_a_column_of_numbers_stands_to_the_right():
    rows = [
        {"set": "2 a", "F1": "0.5 (0.4 to 0.6)", "gain": "+1.00", "note": "", "word": "-"},
        {"set": "b", "F1": "-", "gain": "~0.1", "note": "", "word": "x"},
    ]
    assert markdown_table(rows) == (
        "| set | F1 | gain | note | word |\n"
        "| --- | ---: | ---: | ---: | --- |\n"
        "| 2 a | 0.5 (0.4 to 0.6) | +1.00 |  | - |\n"
        "| b | - | ~0.1 |  | x |"
    )
    assert markdown_table([]) == "-"


def test_a_cell_ends_no_column():
    assert markdown_table([{"a|b": r"c|d\|e"}]).splitlines() == [
        r"| a\|b |",
        "| --- |",
        r"| c\|d\|e |",
    ]
    assert markdown_pairs({"plan": "a|b"}) == "|  |  |\n| --- | --- |\n| plan | a\\|b |"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a  b\n c", "a b c"),
        ("<b>*x*_y_", r"\<b\>\*x\*\_y\_"),
        ("null_text", "null_text"),
        ("[a](b)|c", r"\[a\](b)\|c"),
        ("a\x1b[31m\u202eb", "a\u241b\\[31m\\[U+202E\\]b"),
        (3, "3"),
    ],
)
def test_text_from_elsewhere_is_shown_as_it_is(text, shown):
    assert markdown_text(text) == shown


def test_scores_have_a_row_for_each_label_and_both_means():
    gold = [[(index, index + 1, "A|B") for index in range(2000)], [(0, 1, "C")]]
    predicted = [[(index, index + 1, "A|B") for index in range(1000)], []]
    # A|B: 1,000 of 1,000 predicted and 2,000 gold, F1 2/3; all: F1 2,000 / 3,001 = 0.66644
    assert scores_table(score_entities(gold, predicted)) == (
        "| label | precision | recall | F1 | gold | predicted | correct |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| A\\|B | 1.0000 | 0.5000 | 0.6667 | 2,000 | 1,000 | 1,000 |\n"
        "| C | 0.0000 | 0.0000 | 0.0000 | 1 | 0 | 0 |\n"
        "| **micro** | 1.0000 | 0.4998 | 0.6664 | 2,001 | 1,000 | 1,000 |\n"
        "| **macro** | 0.5000 | 0.2500 | 0.3333 |  |  |  |"
    )
