"""`python -m hpcxpcs` is the same as `hpcxpcs`."""

import sys

from hpcxpcs.cli import main

if __name__ == "__main__":
    sys.exit(main())
