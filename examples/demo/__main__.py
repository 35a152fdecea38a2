"""`python -m examples.demo`, which `make demo` runs."""

import argparse
import os
import sys

from linkner_ray.config import LoggingConfig
from linkner_ray.errors import LinknerError
from linkner_ray.logs import set_up_logs

BESIDE_OTHERS = {"OMP_WAIT_POLICY": "passive", "RAY_worker_niceness": "0"}
"""For the demo's own Ray on a machine that has other work: two threads that spin while they wait
for each other, as nice as Ray makes its workers, took over ten times as long as one thread."""


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
    for name, value in BESIDE_OTHERS.items():
        os.environ.setdefault(name, value)
    set_up_logs(LoggingConfig())
    from examples.demo.run import run_demo  # Ray with it, which reads its environment once

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
