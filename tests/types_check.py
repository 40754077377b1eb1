"""Run mypy strict over every file, and fail if it silently skipped some.

Without the two symlinks (`decodekit/plugins`, `decodekit/constraints`) `mypy -p decodekit` says "Success" while it
checks none of the plugins: so the number of files it reports is compared with the number there are.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def count(*folders: str) -> int:
    """Python files below `folders`, symlinks not followed."""
    return sum(1 for folder in folders for _ in (ROOT / folder).rglob("*.py"))


def check(arguments: list[str], at_least: int) -> bool:
    """Run mypy; True if it found nothing wrong and looked at `at_least` files."""
    done = subprocess.run([sys.executable, "-m", "mypy", *arguments], cwd=ROOT, capture_output=True, text=True)
    print(done.stdout + done.stderr, end="")
    seen = re.search(r"in (\d+) source files?", done.stdout)
    if done.returncode == 0 and (seen is None or int(seen[1]) < at_least):
        print(f"mypy {' '.join(arguments)}: looked at {seen and seen[1]} files, but there are {at_least}")
        return False
    return done.returncode == 0


if __name__ == "__main__":
    package = check(["-p", "decodekit"], count("decodekit", "plugins", "constraints"))
    rest = check(
        ["--explicit-package-bases", "tests", "perf", "examples", "training"],
        count("tests", "perf", "examples", "training"),
    )
    sys.exit(not (package and rest))
