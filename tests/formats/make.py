"""Makes the zoo: `python tests/formats/make.py OUT [MODULE …]`, with the programs that are installed (`.[zoo]`)."""

from __future__ import annotations

import sys

from zoo.make import main

if __name__ == "__main__":
    sys.exit(main())
