"""Fine-tune SpanNER: `python jobs/train.py --config jobs/configs/train_conll03.yaml`."""

import sys

from linkner_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
