"""`python -m clipedu` is the command `clipedu`."""

import sys

from clipedu.cli.process import main

sys.exit(main())
