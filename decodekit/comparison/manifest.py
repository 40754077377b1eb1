"""What made a result: versions, revision, models, seeds, machine. A run goes on only under its own manifest."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch

from decodekit.comparison.plan import Plan
from decodekit.core.bound import Model
from decodekit.errors import OptionError

NAME: Final = "manifest.json"
PACKAGES: Final = ("decodekit", "torch", "transformers", "numpy", "tokenizers", "llguidance", "outlines-core", "lark")
LOOSE: Final = frozenset({"machine", "revision"})
"""Fields in which a continued run may differ: they do not decide what is generated."""


def manifest_of(plan: Plan, models: dict[str, Model]) -> dict[str, Any]:
    """Plain data that names all that decides the results, and the machine.

    `models` holds the loaded models by name; their hash is that of their parameters, so it does not depend on where
    the files lie. The hash of a task is that of its items.
    """
    return {
        "format": 1,
        "plan": plan.described(),
        "items": {_said(task): _items(plan, task) for task in plan.tasks},
        "models": {name: weights(model) for name, model in sorted(models.items())},
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "revision": _revision(),
        "machine": {
            "python": platform.python_version(),
            "system": platform.system(),
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "devices": sorted({model.device.type for model in models.values()}),
        },
    }


def weights(model: Model) -> dict[str, Any]:
    """Number, type and hash of a model's parameters; a model that is no torch module has its name for a hash."""
    module = getattr(model, "hf", None)
    if not isinstance(module, torch.nn.Module):
        return {"name": model.name, "vocab": model.vocab}
    digest, count = hashlib.sha256(), 0
    for name, value in sorted(module.named_parameters()):
        digest.update(name.encode())
        flat = value.detach().cpu().contiguous().view(torch.uint8).numpy()
        digest.update(flat.tobytes())
        count += value.numel()
    return {"parameters": count, "dtype": str(model.dtype), "sha256": digest.hexdigest()}


def keep(folder: Path, manifest: dict[str, Any], resume: bool) -> None:
    """Write the manifest into a new run's folder, or make sure that an old one's is the same.

    Raises:
        OptionError: the folder holds another run, or one that `resume` was not given for; the field is named.
    """
    file = folder / NAME
    if not file.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise OptionError(f"{str(folder)!r} holds files and no {NAME}; give an empty or a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f"{NAME}.new{os.getpid()}"
        fresh.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        fresh.replace(file)
        return
    try:
        old = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OptionError(f"{str(file)!r} is damaged ({error}); start in a new folder") from None
    if not resume:
        raise OptionError(f"{str(folder)!r} holds a run already; give --resume to go on with it, or a new folder")
    for name in manifest:
        if name not in LOOSE and old.get(name) != json.loads(json.dumps(manifest[name])):
            where = _differing(old.get(name), manifest[name], name)
            raise OptionError(f"{str(folder)!r} is a run of another manifest: {where}; give a new folder")


def _differing(old: Any, new: Any, path: str) -> str:
    """The first field in which two manifests differ, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                return _differing(old.get(name), new.get(name), f"{path}.{name}")
    short = [text if len(text) < 60 else text[:57] + "..." for text in (json.dumps(old), json.dumps(new))]
    return f"{path} was {short[0]} and is now {short[1]}"


def _items(plan: Plan, task: Any) -> dict[str, Any]:
    items = plan.chosen(task)
    said = json.dumps([[item.id, item.prompt, item.kind, item.most, repr(item.gold)] for item in items])
    return {"count": len(items), "sha256": hashlib.sha256(said.encode()).hexdigest()}


def _said(task: Any) -> str:
    from decodekit.registry.metadata import form

    return form(task)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _revision() -> str:
    """The git revision of the package's own checkout, with a mark where it was changed; empty where there is none."""
    here = Path(__file__).resolve().parent
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.stdout.strip()
