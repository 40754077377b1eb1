"""A page as a browser shows it, after a script of clicks has run in it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest


def clicked(html: str, script: str, folder: Path, width: int) -> dict[str, Any]:
    """What `script`, added to the page, puts into its title as JSON; the test is skipped where no browser is."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here: what the page holds is tested without one")
    file = folder / "p.html"
    file.write_text(html + script, encoding="utf-8")
    how = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    command = [browser, *how, f"--window-size={width},900", f"file://{file}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None
    told: dict[str, Any] = json.loads(unescape(found[1]))
    return told
