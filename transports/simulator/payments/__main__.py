"""`python -m transports.simulator.payments`: the command line of the card processor."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
