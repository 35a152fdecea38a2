"""The page of all reports: Markdown and pictures within one file, and no script but its own."""

import base64
import hashlib
import re

import pytest

from linkner_ray.reporting.figures import as_svg, draw_f1
from linkner_ray.reporting.html_page import render_page
from linkner_ray.reporting.tables import markdown_table, markdown_text
from tests.pages import Page

HOSTILE = "<script>alert(1)</script> ![x](http://a/b.png) [x](javascript:alert(2)) `|` &lt; $x$"


def test_only_the_script_of_the_page_may_run_and_nothing_is_loaded():
    html = render_page("# A", title="a", cards=[])
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    names = {name for name, _ in Page(html).attributes}
    assert "src" not in names
    assert not [name for name in names if name.startswith("on")]


@pytest.mark.parametrize("written", [lambda t: f"# {t}", lambda t: t, lambda t: f"> {t}"])
def test_text_that_was_made_markdown_is_text(written):
    page = Page(render_page(written(markdown_text(HOSTILE)), title=HOSTILE))
    assert page.text.count(HOSTILE) == 2  # of the title bar, too
    assert page.tags.count("script") == 1
    assert not {"img", "a", "code"} & set(page.tags)


def test_html_in_the_markdown_itself_is_text():
    page = Page(render_page("<b>x</b> <script>y</script>", title="a"))
    assert "<b>x</b> <script>y</script>" in page.text
    assert "b" not in page.tags


def test_tables_stay_tables_with_their_alignment_and_hostile_cells():
    page = Page(
        render_page(markdown_table([{"a": markdown_text(HOSTILE), "b": "1,200"}]), title="")
    )
    assert page.tags.count("th") == page.tags.count("td") == 2
    assert ("style", "text-align:right") in page.attributes
    assert HOSTILE in page.text


def test_pictures_stand_in_the_page_with_hostile_names_as_text():
    figure = draw_f1([HOSTILE], {"local": [0.5], "linked": [0.75]})
    page = render_page("![F1 <of>](plots/f1.png)", title="", pictures={"plots/f1": as_svg(figure)})
    assert 'role="img" aria-label="F1 &lt;of&gt;"><svg' in page
    assert page.count("<svg") == 1
    assert "<?xml" not in page
    assert "<img" not in page
    assert Page(page).tags.count("script") == 1
    assert "alert(1)" in Page(page).text


def test_second_headings_are_a_table_of_contents():
    page = render_page("\n\n".join(f"## {name} *x*" for name in ("A", "B", "C")), title="")
    places = re.findall(r'<a href="#([^"]+)">(. x)</a>', page)
    assert [heading for _, heading in places] == ["A x", "B x", "C x"]
    assert all(f'<h2 id="{place}">' in page for place, _ in places)
    assert "<nav>" not in render_page("## A", title="")
