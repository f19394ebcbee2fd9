"""`python -m transports.simulator`: the command line of the phone network."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
