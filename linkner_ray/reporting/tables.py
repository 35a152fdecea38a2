"""Markdown tables, and text from elsewhere made safe to stand in Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence

from linkner_ray.corpora.scores import Counts, MacroAverage, Scores
from linkner_ray.reporting.visible import make_visible

Row = Mapping[str, str]
"""Column to cell; Markdown, so text from elsewhere goes through `markdown_text`."""

_MARKUP = re.compile(r"([\\`*\[\]|<>#~&!$]|\b_|_\b|(?<!\w)_)")
_NUMBER = re.compile(r"-?$|(\*\*)?[-+~]?\d")
_LOOSE_BAR = re.compile(r"(?<!\\)\|")


def markdown_text(text: object) -> str:
    """Text from elsewhere on one line of Markdown that shows it as it is."""
    one_line = " ".join(str(text).split())
    return _MARKUP.sub(r"\\\1", make_visible(one_line, one_line=True))


def markdown_table(rows: Iterable[Row]) -> str:
    """Rows of the same columns as a table; a dash where there are none.

    Columns of numbers stand to the right.
    """
    rows = list(rows)
    if not rows:
        return "-"
    numeric = [all(_NUMBER.match(row[column]) for row in rows) for column in rows[0]]
    rules = ["---:" if is_numeric else "---" for is_numeric in numeric]
    return "\n".join(map(_line, [list(rows[0]), rules, *(list(row.values()) for row in rows)]))


def markdown_pairs(pairs: Mapping[str, str]) -> str:
    """Names with their values as a table without a head."""
    return "\n".join(map(_line, [["", ""], ["---", "---"], *map(list, pairs.items())]))


def scores_table(scores: Scores) -> str:
    """Scores of each label, then micro and macro."""
    rows = [
        {
            **_shares(name, counts),
            "gold": f"{counts.support:,}",
            "predicted": f"{counts.num_predicted:,}",
            "correct": f"{counts.true_positives:,}",
        }
        for name, counts in (
            *((markdown_text(label), one) for label, one in scores.by_label.items()),
            ("**micro**", scores.micro),
        )
    ]
    macro = _shares("**macro**", scores.macro)
    return markdown_table([*rows, macro | {"gold": "", "predicted": "", "correct": ""}])


def _shares(name: str, scores: Counts | MacroAverage) -> dict[str, str]:
    return {
        "label": name,
        "precision": f"{scores.precision:.4f}",
        "recall": f"{scores.recall:.4f}",
        "F1": f"{scores.f1:.4f}",
    }


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_LOOSE_BAR.sub(r"\|", cell) for cell in cells) + " |"
