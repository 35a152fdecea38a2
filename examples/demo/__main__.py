"""`python -m examples.demo`, which `make demo` runs."""

import argparse
import logging
import sys

from examples.demo.run import run_demo
from linkner_ray.errors import LinknerError
from linkner_ray.logs import TEXT_FORMAT


def main() -> int:
    """Run the demo; an error of ours becomes one message and its exit code, as in the CLI."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Run the whole job on a small world: train, extract, classify, report.",
    )
    parser.add_argument("--output", default="demo-output", help="folder for the result")
    parser.add_argument("--llm", default="", help="Hugging Face id, folder, or endpoint URL")
    parser.add_argument("--encoder", default="", help="Hugging Face id or folder")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format=TEXT_FORMAT)
    try:
        table = run_demo(options.output, llm=options.llm, encoder=options.encoder, progress=_say)
    except LinknerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(table)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
