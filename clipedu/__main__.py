"""`python -m clipedu` is the command `clipedu`."""

import sys

from clipedu.cli import main

sys.exit(main())
