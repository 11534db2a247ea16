"""`python -m clipedu` is the command `clipedu`."""

import sys

from clipedu.cli.parser import main

sys.exit(main())
