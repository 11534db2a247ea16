"""The command `clipedu` as a process of its own.

It sets what a caller of `main` in another program would not expect.
"""

from __future__ import annotations

from clipedu.cli.parser import main as command
from clipedu.utils.garbage import collect_no_more, collect_seldom


def main() -> int:
    """Run the command of this process's arguments.

    Returns:
        its exit code, as of `clipedu.cli.parser.main`.
    """
    collect_seldom()
    try:
        return command()
    finally:
        collect_no_more()
