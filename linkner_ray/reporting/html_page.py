"""The HTML page of every report and of every list of examples: one file that needs nothing else.

A page is Markdown, then cards, each a text with its entities marked. Text from elsewhere stays
text: Markdown is rendered without HTML, cards reach the page as JSON which its script shows as
text, and the page's policy lets no other script run.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import cycle
from typing import Any
from urllib.parse import unquote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.token import Token
from markupsafe import Markup

from linkner_ray.reporting.cards import Card
from linkner_ray.reporting.colours import LABEL_COLOURS
from linkner_ray.reporting.visible import make_visible
from linkner_ray.runs.counters import SOURCES


def render_page(
    markdown: str,
    *,
    title: str,
    pictures: Mapping[str, bytes] | None = None,
    cards: Sequence[Card] | None = None,
    labels: tuple[str, ...] = (),
) -> str:
    """Render a page.

    Args:
        markdown: Headings, paragraphs, tables and pictures; text from elsewhere in it has gone
            through `markdown_text`.
        title: In the title bar of the browser.
        pictures: SVG by the path that the Markdown names, without its suffix.
        cards: Shown below the Markdown, some at a time; None for a page without.
        labels: Of the marks, in the order of the legend.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", _inline_picture)
    tokens = parser.parse(markdown)
    contents = _number_headings(tokens) if cards is None else []
    content = parser.renderer.render(tokens, parser.options, {"pictures": pictures or {}})
    loader = PackageLoader("linkner_ray.reporting")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    script = loader.get_source(environment, "page.js")[0]
    return environment.get_template("page.html.j2").render(
        title=make_visible(title, one_line=True),
        content=Markup(content),  # noqa: S704 - its HTML is escaped
        contents=contents,
        script=Markup(script),  # noqa: S704 - ours
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        cards=None if cards is None else _visible(_card_data(cards, labels)),
    )


def _card_data(cards: Sequence[Card], labels: tuple[str, ...]) -> dict[str, Any]:
    colours = dict(zip(labels, cycle(LABEL_COLOURS), strict=False))
    return {
        "labels": list(colours.items()),
        "sources": SOURCES,
        "groups": list(dict.fromkeys(card.group for card in cards)),
        "cards": [asdict(card) | {"link": _is_web_address(card.url)} for card in cards],
    }


def _visible(tree: Any) -> Any:  # noqa: ANN401 - a JSON tree
    """A tree in which no string has control characters or turns the direction of text."""
    match tree:
        case str():
            return make_visible(tree)
        case dict():
            return {_visible(name): _visible(value) for name, value in tree.items()}
        case list() | tuple():
            return [_visible(value) for value in tree]
    return tree


def _is_web_address(url: str | None) -> bool:
    """Whether an address may be a link; a page can also claim one that begins `javascript:`."""
    try:
        return urlsplit(url or "").scheme in ("http", "https")
    except ValueError:  # such as an unclosed [ of an IPv6 host
        return False


def _inline_picture(
    _renderer: RendererProtocol,
    tokens: Sequence[Token],
    index: int,
    _options: object,
    env: Mapping[str, Mapping[str, bytes]],
) -> str:
    """An image of the Markdown as the SVG itself, whose colours then follow the page's."""
    token = tokens[index]
    path = unquote(str(token.attrs["src"])).rpartition(".")[0]
    svg = env["pictures"][path].decode()
    return Markup('<span class="picture" role="img" aria-label="{}">{}</span>').format(
        token.content,
        Markup(svg[svg.index("<svg") :]),  # noqa: S704 - drawn by matplotlib, which escapes
    )


def _number_headings(tokens: Sequence[Token]) -> list[tuple[str, str]]:
    """Give each second heading an id; return ids and headings, as a table of contents."""
    contents = []
    for number, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            token.attrSet("id", f"part-{number}")
            inline = tokens[number + 1].children or []
            text = "".join(child.content for child in inline)
            contents.append((f"part-{number}", text))
    return contents
