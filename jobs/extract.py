"""Extract entities: `python jobs/extract.py --config jobs/configs/extract.yaml KEY=VALUE ...`."""

import sys

from linkner_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["extract", *sys.argv[1:]]))
