"""Extract and publish a night: `python jobs/nightly.py --config jobs/configs/nightly.yaml`."""

import sys

from linkner_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["nightly", *sys.argv[1:]]))
