"""What `import decodekit` gives: the names a user calls, every plugin, and no heavy import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import decodekit as dk
from decodekit.registry import discovery


def test_every_name_is_there() -> None:
    for name in dk.__all__:
        assert getattr(dk, name) is not None
    assert callable(dk.hf)
    assert set(dk.__all__) <= set(dir(dk))
    assert set(discovery.names()) <= set(dir(dk))


def test_plugins_are_attributes() -> None:
    assert dk.temperature is discovery.load("temperature")
    assert str(dk.Strategy.of(dk.temperature(0.8) | dk.Strategy.of("sample"))) == str(
        dk.Strategy.of("sample | temperature(0.8)")
    )


def test_a_slip_is_an_attribute_error_with_the_near_name() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'temperatur': .*did you mean 'temperature'"):
        dk.temperatur
    assert not hasattr(dk, "__wrapped__")


def test_importing_is_light() -> None:
    code = (
        "import sys, decodekit; print([m for m in ('torch', 'transformers', 'pydantic', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
