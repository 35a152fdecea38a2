import pytest

from linkner_ray.readers.markup import find_excess

PAGE = "<html><body><ul><li>a<li>b</ul><p>c <b>d</b> <font size=2>e<p>f</body></html>"


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("<div " + " ".join(f"a{i}=1" for i in range(1_001)), "1001 attributes"),
        ("<ul><li>x" * 5_000, "lists"),
        ("".join(f"<font size={i}><p>x" for i in range(2_000)), "formatting elements"),
        ("<svg>" * 20_000 + "</x>" * 20_000, "elements"),
        ("<b>" + "<div>" * 20_000 + "</b>" * 20_000, "elements"),
    ],
)
def test_markup_that_would_take_all_time_or_memory_is_found(page, found):
    assert found in find_excess(page)


@pytest.mark.parametrize(
    "page",
    [
        "",
        PAGE * 2_000,
        "<font color=red><p>x" * 3_000,  # equal ones are opened three times
        "<p>x" * 50_000 + "<td>" * 10_000,
        f'<meta content="{"word " * 5_000}">',
        "<script>" + "'<ul><div><b>'" * 10_000 + "</script><!--" + "<ul>" * 10_000,
        "<svg>" + "<path d='1'/>" * 20_000 + "</svg>",
        "<" * 10_000 + "a < b",
    ],
)
def test_other_pages_are_not(page):
    assert find_excess(page) is None
