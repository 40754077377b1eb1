"""Settings shared by all tests: one thread, no network, hypothesis without time limits and without luck."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch
from hypothesis import settings

pytest_plugins = ["tests.tiny"]
torch.set_num_threads(1)
settings.register_profile("decodekit", deadline=None, derandomize=True, database=None)
settings.load_profile("decodekit")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real models, tokenizers and data sets; tests that need it are skipped without it."""
    folder = os.environ.get("DECODEKIT_DATA")
    if not folder:
        pytest.skip("DECODEKIT_DATA is not set: this test needs real data")
    return Path(folder)
