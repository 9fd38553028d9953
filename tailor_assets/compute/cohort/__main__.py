"""``python -m tailor_assets.compute.cohort FOLDER``: reads a cohort's folder back and checks it."""

import sys
from pathlib import Path

from tailor_assets.compute.cohort.read_back import read_back
from tailor_assets.compute.errors import PermanentProblem


def main() -> int:
    """0: all is as it should be. 1: sentences say what is not. 2: usage."""
    if len(sys.argv) != 2:
        print("usage: python -m tailor_assets.compute.cohort FOLDER", file=sys.stderr)
        return 2
    try:
        read, wrong = read_back(Path(sys.argv[1]))
    except PermanentProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    print(*read, sep="\n")
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
