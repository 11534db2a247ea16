#!/usr/bin/env bash
# pytest-xdist 3.8.0 with pytest 9.2.0: `--dist loadgroup` spreads the tests of one xdist_group over all workers.
#
# Expected: tests with `pytest.mark.xdist_group("one")` run on one worker, so that what they share is made once; or an error.
# Seen:     they run on both of two workers, without a word. With pytest 9.1.1, the same xdist and the same file, on one. (xdist writes
#           the group into an attribute of the test, from which pytest 9.2 no longer reads its id.) A suite with costly shared
#           fixtures, such as groups of processes, makes them once a worker, and tests that exclude each other run at once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/test_group.py" <<'PYTHON'
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_in_a_group(number):
    time.sleep(0.3)
PYTHON
cd "$folder"
for version in 9.1.1 9.2.0; do
  python3 -m venv "venv-$version"
  "venv-$version/bin/pip" install -q "pytest==$version" pytest-xdist==3.8.0
  workers=$("venv-$version/bin/python" -m pytest -v -n 2 --dist loadgroup test_group.py | grep -o '^\[gw[0-9]*\]' | sort -u | wc -l)
  echo "pytest $version: the group runs on $workers of 2 workers"
  echo "$workers" > "$version.txt"
done
if [ "$(cat 9.1.1.txt)" != 1 ] || [ "$(cat 9.2.0.txt)" != 2 ]; then
  echo "this has changed"
  exit 1
fi
