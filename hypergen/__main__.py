"""`python -m hypergen`: the command line."""

import sys

from hypergen.cli import main

sys.exit(main())
