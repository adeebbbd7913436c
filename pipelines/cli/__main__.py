"""`python -m pipelines.cli`: what the command `npyflow` runs."""

import sys

from pipelines.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
