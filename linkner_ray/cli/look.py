"""Commands that look: at texts, at an input, at a run, at two runs."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

import linkner_ray
from linkner_ray.cli.options import Checkpoint, ConfigFile, JsonFile, Overrides, Quiet
from linkner_ray.cli.output import check_replaceable, set_output, write_json, write_text
from linkner_ray.errors import ConfigError, DataError, counted, hide_secrets

_UNUSED_OUTPUT = "output.path=unused"
"""A config of extraction must have one, and a preview writes none."""


def preview(  # noqa: PLR0913, PLR0917 - each is an option of the command
    overrides: Overrides = None,
    config: ConfigFile = None,
    html: Annotated[str, typer.Option(help="File for the page.")] = "preview.html",
    pages: Annotated[int, typer.Option(min=1, help="Pages to show.")] = 20,
    seed: Annotated[int, typer.Option(help="Another one shows other pages.")] = 0,
    llm: Annotated[
        bool, typer.Option("--llm", help="Start the config's LLM and ask it, too.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Show some pages of an input with their entities, as HTML, without Ray and without an output.

    Example: linkner preview input.paths=[crawl/] recognize.checkpoint=checkpoints/mine --pages 20
    """
    set_output(quiet=quiet)
    check_replaceable(html)
    from linkner_ray.config import ExtractConfig
    from linkner_ray.config.loading import load_config

    given = list(overrides or [])
    if not llm and config is None:
        given = ["llm.backend=none", *given]
    resolved = load_config(ExtractConfig, config, [_UNUSED_OUTPUT, *given])
    if llm and resolved.llm.backend == "none":
        raise ConfigError("--llm asks the LLM of the config, and llm.backend = none; name one")
    from linkner_ray.extract.preview import preview_input

    found = preview_input(resolved, pages=pages, seed=seed, ask=llm)
    write_text(html, found.html)
    asked = f", {counted(found.questions, 'question')}" if llm else ""
    what = f"{counted(found.pages, 'page')} with {counted(found.entities, 'entity')}"
    print(f"{what}{asked}: {html}")
    for note in found.notes:
        print(note)


def predict(
    checkpoint: Checkpoint,
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="Texts; - reads one from standard input.")
    ],
    near_misses: Annotated[
        bool, typer.Option("--near-misses", help="List near misses too.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Find the entities of a few texts with a checkpoint, without Ray and without an LLM.

    Example: linkner predict checkpoints/conll03 "Angela Merkel visited Paris." --near-misses
    """
    set_output(json_file=json_file)
    from linkner_ray.spanner.checkpoint import local_checkpoint

    local_checkpoint(checkpoint)  # a wrong path is told before torch is imported
    from linkner_ray.api import LinkNER
    from linkner_ray.cli.predict_text import as_tree, predict_text, render, without_pandas

    linkner = LinkNER.from_pretrained(checkpoint)
    colored = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    found = []
    with without_pandas():
        for index, text in enumerate(texts):
            raw = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
            prediction = predict_text(linkner, raw.decode("utf-8", errors="replace"))
            found.append(as_tree(prediction, near_misses=near_misses))
            if index:
                print()
            print(
                render(prediction, linkner.label_set.ids, near_misses=near_misses, colored=colored)
            )
    write_json(json_file, "prediction", {"texts": found})


def show(
    output: Annotated[str, typer.Argument(help="Folder of a run.")],
    doc: Annotated[str, typer.Option("--doc", help="Document id.")],
) -> None:
    """Show a document of a run: its entities, and what the LLM was asked and said.

    Example: linkner show demo-output --doc page-00017
    """
    from linkner_ray.extract.show import show_document

    print(show_document(output, doc))


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="Folder of the earlier run.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Folder of the later run.")],
    html: Annotated[str | None, typer.Option(help="File for a page with 50 examples.")] = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Say which entities two runs do not have alike, by label and source.

    It counts apart those whose text changed, and lists the steps that the runs decide differently.

    Example: linkner diff nights/monday nights/tuesday --html diff.html
    """
    set_output(quiet=quiet, json_file=json_file)
    check_replaceable(html)
    from linkner_ray.extract.spread import BySize
    from linkner_ray.nightly.diff import compare_runs
    from linkner_ray.nightly.diff_page import describe_diff, render_diff

    found = compare_runs(before, after, spread=BySize())
    print(describe_diff(found))
    write_text(html, render_diff(found) if html else "")
    write_json(json_file, "diff", found.as_json())


def export(
    output: Annotated[str, typer.Argument(help="Folder of a finished run.")],
    file: Annotated[str, typer.Argument(help="File to write: .parquet, .jsonl or .csv.")],
    flat: Annotated[
        bool, typer.Option("--flat", help="One row an entity; else one row a document.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write the entities of a run into one file for other programs.

    CSV has every text as it stands, so that it reads back equal. A spreadsheet takes one that
    begins with = + - or @ for a formula: open such a file with its columns imported as text.

    Example: linkner export demo-output entities.csv --flat
    """
    set_output(quiet=quiet)
    from linkner_ray.extract.export import export_entities

    found = export_entities(output, file, flat=flat)
    entities, documents = counted(found.entities, "entity"), counted(found.documents, "document")
    print(f"{entities} of {documents}: {hide_secrets(file)}")
    if found.formulas:
        print(
            f"{counted(found.formulas, 'cell')} with = + - @ or a tab in front, which a "
            "spreadsheet takes for formulas; import the columns as text, or write .parquet"
        )


def demo() -> None:
    """Say where the demo is and how to run it; the installed package does not hold it.

    Example: linkner demo
    """
    for folder in (Path.cwd(), Path(linkner_ray.__file__).parent.parent):
        if (folder / "examples" / "demo").is_dir() and (folder / "Makefile").is_file():
            print(f"The demo is in this source tree:\n\n  make -C {shlex.quote(str(folder))} demo")
            return
    source = f"linkner_ray-{linkner_ray.__version__}"
    print(
        "The demo is in the source, which the installed package does not hold. Take a clone of the "
        f"repository and type `make demo` there, or the source archive beside the wheel:\n\n"
        f"  tar xzf {source}.tar.gz\n  make -C {source} demo"
    )


def verify(
    output: Annotated[str, typer.Argument(help="Folder of a finished run.")],
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Read every file of a finished run and compare it with the manifest.

    Example: linkner verify s3://bucket/entities/2026-01-01
    """
    set_output(quiet=quiet, json_file=json_file)
    from linkner_ray.extract.spread import BySize
    from linkner_ray.runs.manifest import verify_output
    from linkner_ray.storage import Folder

    num_files, faults = verify_output(Folder.at(output), spread=BySize())
    write_json(json_file, "verification", {"num_files": num_files, "faults": faults})
    if faults:
        raise DataError(
            "\n".join(
                [
                    f"{output} is not what its manifest says; restore these files, or run again "
                    "into another output.path:",
                    *faults,
                ]
            )
        )
    print(f"{hide_secrets(output)}: {counted(num_files, 'file')} as the manifest lists them")
