"""Print the oldest version of each dependency that pyproject.toml allows.

    python scripts/oldest_versions.py > oldest.txt
    pip install -c oldest.txt -e ".[test]"

installs clipedu with them: CI runs the tests there, so a lower bound is a version that was tested. It needs `packaging`, and
`tomli` before Python 3.11.
"""

import argparse
import sys
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def oldest_versions(pyproject: str) -> list[str]:
    """Return one pin a dependency that this Python needs, as "torch==2.7".

    Args:
        pyproject: the text of pyproject.toml.
    Raises:
        ValueError: a dependency without a lower bound.
    """
    pins = []
    for line in tomllib.loads(pyproject)["project"]["dependencies"]:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        bounds = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        if not bounds:
            raise ValueError(f"{line} has no lower bound (>=)")
        pins.append(f"{requirement.name}=={bounds[0]}")
    return pins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
    print("\n".join(oldest_versions(pyproject.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
