"""`python -m linkner_ray.cli`."""

import sys

from linkner_ray.cli.app import main

sys.exit(main())
