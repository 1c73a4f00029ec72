"""`python -m hjepa` is the `hjepa` command."""

import sys

from hjepa.cli import main

if __name__ == "__main__":
    sys.exit(main())
