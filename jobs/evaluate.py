"""Score on labelled sets: `python jobs/evaluate.py --config jobs/configs/evaluate_conll03.yaml`."""

import sys

from linkner_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
