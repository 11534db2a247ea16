#!/usr/bin/env bash
# weightwatcher 0.7.7: importing it turns on the INFO lines of every library in the process.
#
# Expected: a library logs to its own logger and leaves the root logger to the program (logging's documentation asks libraries for that).
# Seen:     the import gives the root logger a handler and the level INFO, so that lines of all other libraries, which were
#           silent before, come out; a `logging.basicConfig` of the program after it does nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 weightwatcher==0.7.7
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging

root, other = logging.getLogger(), logging.getLogger("another.library")
before = (logging.getLevelName(root.level), len(root.handlers), other.isEnabledFor(logging.INFO))
import weightwatcher  # noqa: E402, F401

after = (logging.getLevelName(root.level), len(root.handlers), other.isEnabledFor(logging.INFO))
print("root's level, its handlers, whether another library's INFO is on: before", before, "after", after)
logging.basicConfig(level=logging.ERROR)
print("after the program's own basicConfig(level=ERROR):", logging.getLevelName(root.level))
assert before == ("WARNING", 0, False) and after[0] == "INFO" and after[1] > 0 and after[2], "this has changed"
assert root.level == logging.INFO, "this has changed"
PYTHON
