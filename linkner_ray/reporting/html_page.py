"""HTML pages of text that is not trusted."""

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from linkner_ray.reporting.visible import make_visible


def html_template(name: str) -> Template:
    """A template of `templates/`, in which markup is escaped.

    It has the filters `visible`, which shows control characters, and `count`, for whole numbers.
    """
    environment = Environment(
        loader=PackageLoader("linkner_ray.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": make_visible, "count": "{:,}".format}
    return environment.get_template(name)
