"""`python -m hypergen`: the command line."""

import sys

from hypergen.cli.main import main

sys.exit(main())
