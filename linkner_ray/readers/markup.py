"""Pages whose markup would take an HTML parser hours or all memory.

A page of 40 KB can do that: a parser opens formatting elements that nobody closed anew in each
paragraph, indents a list by its depth, looks for the element that a tag closes in all that are
open, and compares each attribute of a tag with those before it.
"""

import re
from collections import Counter

_TOKEN = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(script|style|textarea|title)(?=[\s/>]).*?(?:</\1|\Z)"
    r"|<(/?)([a-z][^\s/>]*)((?:[^>=]++|=\s*+(?:\"[^\"]*\"|'[^']*')?+)*+)",
    re.DOTALL | re.IGNORECASE,
)
"""A comment, an element that holds text alone, or a tag with its name and attributes."""

_QUOTED = re.compile(r"=\s*(?:\"[^\"]*\"|'[^']*')")

_LISTS = frozenset({"ul", "ol", "menu", "dir"})
_FORMATTING = frozenset(
    {"b", "big", "code", "em", "font", "i", "s", "small", "strike", "strong", "tt", "u"}
)
_COSTLY = re.compile(rf"<(?:{'|'.join(sorted(_LISTS | _FORMATTING))})\b", re.IGNORECASE)
_CLOSED_BY_OTHERS = frozenset(
    {
        "a", "area", "base", "body", "br", "col", "colgroup", "dd", "dt", "embed", "head", "hr",
        "html", "img", "input", "li", "link", "meta", "option", "p", "param", "rp", "rt", "source",
        "tbody", "td", "tfoot", "th", "thead", "tr", "track", "wbr",
    }
)  # fmt: skip
"""Elements without content, and those that the next of their kind closes."""

_MAX_ATTRIBUTES = 1_000
_MAX_EQUAL = 3
"""Of equal formatting elements a parser opens no more than this anew."""

_FEW_TAGS = 900
_FORMATTING_COST = 100
_LIST_COST = 10
_MAX_COST = 100_000_000
_MAX_COST_EACH = 200
"""What the elements that stand open may cost: 10^8 is about 0.4 GB or a second, and a page of so
many tags as need more has on average not many of them open."""


def find_excess(html: str) -> str | None:
    """What a page has too much of; None for a page that can be parsed."""
    num_tags = html.count("<")
    num_costly = len(_COSTLY.findall(html)) if num_tags > _FEW_TAGS else 0
    most = num_tags * (num_tags + _FORMATTING_COST * num_costly)
    return _find_long_tag(html) or (_find_open_elements(html) if most > _MAX_COST else None)


def _find_long_tag(html: str) -> str | None:
    for token in _TOKEN.finditer(html):
        if token.end() - token.start() > 2 * _MAX_ATTRIBUTES and token[4]:
            num_attributes = len(_QUOTED.sub("= ", token[4]).split())
            if num_attributes > _MAX_ATTRIBUTES:
                return f"a tag has {num_attributes} attributes; at most {_MAX_ATTRIBUTES} are read"
    return None


def _find_open_elements(html: str) -> str | None:
    elements = _OpenElements()
    cost = num_tags = 0
    for token in _TOKEN.finditer(html):
        if token[3] is None:
            continue
        if token[2]:
            elements.close(token[3].lower())
        else:
            elements.open(token[3].lower(), token[4])
        cost += elements.cost
        num_tags += 1
        if cost > _MAX_COST + _MAX_COST_EACH * num_tags:
            return f"after {num_tags} tags, {elements} stand open"
    return None


class _OpenElements:
    """Elements that stand open, roughly as a parser would have them."""

    def __init__(self) -> None:
        self.num_lists = 0
        self._names: list[str] = []
        self._num_of: Counter[str] = Counter()
        self._formatting: list[tuple[str, str]] = []  # name and attributes
        self._num_equal: Counter[tuple[str, str]] = Counter()

    def __str__(self) -> str:
        return (
            f"{len(self._names)} elements, {self.num_lists} lists and {len(self._formatting)} "
            "formatting elements"
        )

    @property
    def cost(self) -> int:
        """What the next tag may cost the parser."""
        formatting = _FORMATTING_COST * len(self._formatting)
        return len(self._names) + formatting + _LIST_COST * self.num_lists

    def open(self, name: str, attributes: str) -> None:
        """Take an opening tag."""
        if name in _CLOSED_BY_OTHERS or (self._num_of["svg"] and attributes.endswith("/")):
            return
        self._names.append(name)
        self._num_of[name] += 1
        self.num_lists += name in _LISTS
        key = (name, attributes)
        if name in _FORMATTING and self._num_equal[key] < _MAX_EQUAL:
            self._num_equal[key] += 1
            self._formatting.append(key)

    def close(self, name: str) -> None:
        """Take a closing tag, which also closes what was opened inside."""
        if name in _FORMATTING:
            for index in reversed(range(len(self._formatting))):
                if self._formatting[index][0] == name:
                    self._num_equal[self._formatting.pop(index)] -= 1
                    break
        if not self._num_of[name]:
            return
        closed = ""
        while closed != name:
            closed = self._names.pop()
            self._num_of[closed] -= 1
            self.num_lists -= closed in _LISTS
