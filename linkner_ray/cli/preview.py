"""`linkner preview`: look at a few pages of an input before anything is run."""

from typing import Annotated

import typer

from linkner_ray.cli.files import check_writable, write_text

_UNUSED_OUTPUT = "output.path=unused"
"""A config of extraction must have one, and a preview writes none."""


def preview(  # noqa: PLR0913, PLR0917 - each is an option of the command
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Dotted overrides, such as input.paths=[crawl/]")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", help="YAML file; see jobs/configs for examples.")
    ] = None,
    html: Annotated[str, typer.Option(help="File for the page.")] = "preview.html",
    pages: Annotated[int, typer.Option(min=1, help="Pages to show.")] = 20,
    seed: Annotated[int, typer.Option(help="Another one shows other pages.")] = 0,
    llm: Annotated[
        bool, typer.Option("--llm", help="Start the config's LLM and ask it, too.")
    ] = False,
) -> None:
    """Show some pages of an input with their entities, as HTML, without Ray and without an output.

    Example: linkner preview input.paths=[crawl/] recognize.checkpoint=checkpoints/mine --pages 20
    """
    check_writable(html)
    from linkner_ray.config import ExtractConfig
    from linkner_ray.config.loading import load_config

    given = list(overrides or [])
    if not llm and config is None:
        given = ["llm.backend=none", *given]
    resolved = load_config(ExtractConfig, config, [_UNUSED_OUTPUT, *given])
    from linkner_ray.extract.preview import preview_input

    found = preview_input(
        resolved, pages=pages, seed=seed, ask=llm and resolved.llm.backend != "none"
    )
    write_text(html, found.html)
    asked = f", {found.questions} questions" if llm else ""
    typer.echo(f"{found.pages} pages with {found.entities} entities{asked}: {html}")
