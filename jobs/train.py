"""Train a SpanNER: `python jobs/train.py --config jobs/configs/train_conll03.yaml [KEY=VALUE ...]`.

Exit codes: 0 done; 2 wrong config or corpus, nothing started; 4 workers did not come up or died.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

import yaml

from linkner_ray.config import TrainConfig, load_config
from linkner_ray.errors import LinknerError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, train, print the summary; the exit code."""
    parser = argparse.ArgumentParser(description="Train a SpanNER on Ray Train.")
    parser.add_argument("--config", help="YAML file, such as jobs/configs/train_conll03.yaml")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.add_argument("overrides", nargs="*", help="such as training.epochs=3")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        config = load_config(TrainConfig, options.config, options.overrides)
        if options.dry_run:
            print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")
            return 0
        return _train(config)
    except LinknerError as error:
        print(f"train: {error}", file=sys.stderr)
        return error.exit_code


def _train(config: TrainConfig) -> int:
    from linkner_ray.training import train

    result = train(config)
    best = result.best
    print(f"checkpoint      {result.checkpoint}")
    print(f"run             {result.run_name} in {config.output.storage}")
    print(f"dev F1          {best.f1:.4f} (P {best.precision:.4f}, R {best.recall:.4f})")
    print(f"epoch           {best.epoch} of {len(result.epochs)}")
    print(f"temperature     {result.calibration.temperature:.3f}")
    print(f"sentences       {result.train_sentences:,} train, {result.dev_sentences:,} dev")
    print(f"unreachable     {result.train_unreachable:,} train, {result.dev_unreachable:,} dev")
    print(f"steps           {result.steps:,} at {result.seconds_per_step:.3f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
