"""HTML pages read back: their tags, what is text, and the cards that their script shows."""

import json
from html.parser import HTMLParser


class Page(HTMLParser):
    """Collects tags, attributes, the text outside scripts and styles, and the cards."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.data, self._open = None, None
        self.feed(html)
        self.cards = self.data["cards"] if self.data else []
        self.marks = [p for card in self.cards for p in card["pieces"] if not isinstance(p, str)]

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._open = (tag, dict(attrs).get("id"))

    def handle_endtag(self, _tag):
        self._open = None

    def handle_data(self, data):
        if self._open == ("script", "cards"):
            self.data = json.loads(data)
        elif self._open is None or self._open[0] not in ("script", "style"):
            self.text += data


def text_of_card(card):
    """The text of a card, marked or not."""
    return "".join(piece if isinstance(piece, str) else piece[0] for piece in card["pieces"])
