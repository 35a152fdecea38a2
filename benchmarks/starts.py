"""What starts cost in processor seconds, beside the import of torch in the same round.

    python -m benchmarks.starts --rounds 3 --json FILE

Every way is an interpreter of its own. Processor seconds of all its threads are counted, since
others on the machine move them less than seconds on the clock.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import load_average, write_json
from linkner_ray.config import ModelConfig
from linkner_ray.reporting.tables import markdown_table

MOST = {
    "encoder_imports": ("torch", 1.5),
    "predict_second": ("transformers_and_weights", 1.3),
}
"""Targets: at most so many times another way."""

MOST_SECONDS = {"help": 1.0, "extract_dry_run": 1.0}

_COMMAND = "import sys; from linkner_ray.cli.app import main; sys.exit(main({words!r}))"
_MAKE_CHECKPOINT = """
import torch
from pathlib import Path
from linkner_ray.config import ModelConfig
from linkner_ray.labels import load_label_set
from linkner_ray.spanner.self_check import choose_sentences, record_self_check
from linkner_ray.spanner.model import SpanNER

torch.manual_seed(0)
model = SpanNER.from_encoder(ModelConfig(encoder={encoder!r}), load_label_set("conll03")).eval()
model.save_pretrained(Path({folder!r}))
sentences = [f"Sentence {{number}} is about Angela Merkel and Paris .".split()
             for number in range(200)]
record_self_check(model, choose_sentences(sentences)).write(Path({folder!r}))
"""
_LOAD_WEIGHTS = """
import torch
from transformers import AutoConfig, AutoModel
from safetensors.torch import load_file
AutoModel.from_config(AutoConfig.from_pretrained({encoder!r}))
load_file({weights!r})
"""


def ways(checkpoint: Path, crawl: Path, output: Path) -> dict[str, str]:
    """The code of each way, but for the first `predict`, which is the second without a memory."""
    predict = ["predict", str(checkpoint), "Angela Merkel visited Paris."]
    dry_run = [
        *("extract", "--dry-run", f"input.paths=[{crawl}]", f"output.path={output}"),
        *(f"recognize.checkpoint={checkpoint}", "llm.backend=none"),
    ]
    weights = _LOAD_WEIGHTS.format(
        encoder=str(checkpoint / "encoder"), weights=str(checkpoint / "model.safetensors")
    )
    return {
        "torch": "import torch",
        "transformers": "import torch; from transformers import AutoModel",
        "transformers_and_weights": weights,
        "encoder_imports": "import linkner_ray.stages.recognize_spans",
        "encoder_imports_with_ray_data": (
            "import linkner_ray.extract.pipeline, linkner_ray.stages.recognize_spans"
        ),
        "help": _COMMAND.format(words=["--help"]),
        "extract_dry_run": _COMMAND.format(words=dry_run),
        "predict_first": _COMMAND.format(words=predict),
        "predict_second": _COMMAND.format(words=predict),
    }


def cpu_seconds(code: str, environment: Mapping[str, str]) -> float:
    """Processor seconds of a fresh interpreter that runs some code.

    Raises:
        RuntimeError: If it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(  # noqa: S603 - this Python, and code of this module
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{code}\nended with {done.returncode}:\n{done.stderr}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def run(checkpoint: Path, *, rounds: int) -> dict[str, float]:
    """Time every way once in each round; the second `predict` always follows the first.

    Returns:
        Median processor seconds of each way, and medians over rounds of its ratio to torch.
    """
    seconds: dict[str, list[float]] = {}
    numbers: dict[str, float] = {"rounds": rounds, "load_average_before": load_average()}
    with tempfile.TemporaryDirectory() as name:
        crawl = Path(name) / "crawl.jsonl"
        crawl.write_text('{"text": "Angela Merkel visited Paris."}\n', encoding="utf-8")
        codes = ways(checkpoint, crawl, Path(name) / "output")
        for number in range(-1, rounds):  # the first round fills the disk's cache, and counts not
            memory = {"LINKNER_SELF_CHECKS": str(Path(name) / f"memory-{number}")}
            for way, code in codes.items():
                taken = cpu_seconds(code, memory)
                if number >= 0:
                    seconds.setdefault(way, []).append(taken)
    for way, taken_by in seconds.items():
        numbers[f"cpu_s_{way}"] = statistics.median(taken_by)
        numbers[f"ratio_{way}_to_torch"] = _ratio(seconds, way, "torch")
    for way, (other, _) in MOST.items():
        numbers[f"ratio_{way}_to_{other}"] = _ratio(seconds, way, other)
    return numbers | {"load_average_after": load_average()}


def _ratio(seconds: Mapping[str, Sequence[float]], way: str, other: str) -> float:
    return statistics.median(a / b for a, b in zip(seconds[way], seconds[other], strict=True))


def table(numbers: Mapping[str, float]) -> str:
    """What was found, a way a row, with what is aimed at."""
    aims = {way: f"{most} times {other}" for way, (other, most) in MOST.items()}
    aims |= {way: f"{most} s" for way, most in MOST_SECONDS.items()}
    names = [name.removeprefix("cpu_s_") for name in numbers if name.startswith("cpu_s_")]
    return markdown_table(
        [
            {
                "start": name.replace("_", " "),
                "processor s": f"{numbers[f'cpu_s_{name}']:.2f}",
                "to torch": f"{numbers[f'ratio_{name}_to_torch']:.2f}",
                "at most": aims.get(name, "").replace("_", " "),
                "found": (
                    f"{numbers[f'ratio_{name}_to_{MOST[name][0]}']:.2f}" if name in MOST else ""
                ),
            }
            for name in names
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: a new head on --encoder")
    parser.add_argument("--encoder", default=ModelConfig().encoder, help="used without checkpoint")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        checkpoint = options.checkpoint
        if checkpoint is None:
            checkpoint = Path(name) / "checkpoint"
            code = _MAKE_CHECKPOINT.format(encoder=options.encoder, folder=str(checkpoint))
            cpu_seconds(code, {})
        numbers = run(checkpoint.absolute(), rounds=options.rounds)
    print(table(numbers))
    if options.json is not None:
        write_json(options.json, numbers)


if __name__ == "__main__":
    main()
