"""From what a user names to a model that can be read: paths, hub names, the zoo, or objects already loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import logging

import decodekit.models.grid_llama  # noqa: F401  # tells transformers of the architecture
from decodekit import zoo
from decodekit.errors import ModelError, UnknownModel
from decodekit.models.codebook import Codebook, codebook_beside
from decodekit.models.full_attention import DIFFUSION, Full, foreign, from_foreign
from decodekit.models.masks import KNOWN, refuse, settle_attention
from decodekit.models.model import CacheKind, HFModel
from decodekit.models.probe import fitting_cache

_ZOO = "zoo:"


def load(
    model: object,
    *,
    tokenizer: Any = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    device_map: Any = None,
    attn: str | None = None,
    cache: CacheKind | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """Load a model, or wrap one that is loaded.

    Args:
        model: a folder in the Hugging Face layout, a hub name, `zoo:NAME`, a transformers model (with `tokenizer`), a
            (model, tokenizer) pair, or a decodekit model, which is passed through.
        tokenizer: a tokenizer object or folder, where the model's own is not meant.
        dtype: of the parameters, by name or as torch.dtype. Default: float32 on a CPU, the checkpoint's own elsewhere.
        device: where to put the model.
        device_map: as in transformers (accelerate); not together with `device`.
        attn: attention implementation, "sdpa" or "eager".
        cache: "slab" (ours), "holes" (transformers' own, append-only) or "none" (re-read everything); by default the
            fastest that is known, or for a family that we do not know found, to be exact for this model.
        trust_remote_code: run code that comes with the model. Only if you say so.

    Raises:
        UnknownModel: nothing to load under this name. ModelError: it cannot be served. Each in one sentence.
    """
    if isinstance(model, tuple) and len(model) == 2:
        pair: tuple[object, Any] = model
        model, tokenizer = pair[0], tokenizer or pair[1]
    if isinstance(model, str) and model.startswith(_ZOO) and tokenizer is None and device_map is None:
        return _from_zoo(model, dtype, device, attn, cache)
    if isinstance(model, str | os.PathLike):
        options = {"attn_implementation": attn, "trust_remote_code": trust_remote_code}
        hf, found, name = _from_name(os.fspath(model), tokenizer, _placed(dtype, device, device_map), options)
        if device is not None:
            hf = hf.to(device)
        return _wrap(hf, found, name, cache, codebook_beside(_source(name)))
    if hasattr(model, "reader") and hasattr(model, "provides"):
        return model
    if not isinstance(model, torch.nn.Module) or not hasattr(model, "config"):
        raise UnknownModel(
            f"the model is of type {type(model).__name__}; give a path, a hub name, 'zoo:NAME', a transformers model "
            "with tokenizer=..., or a (model, tokenizer) pair"
        )
    if attn is not None:
        model.set_attn_implementation(attn)  # type: ignore[operator]
    hf = model if device is None and dtype is None else model.to(device=device, dtype=_dtype(dtype))
    given = AutoTokenizer.from_pretrained(tokenizer) if isinstance(tokenizer, str | os.PathLike) else tokenizer
    return _wrap(hf, given, str(getattr(model.config, "_name_or_path", "") or type(model).__name__), cache)


@lru_cache(maxsize=8)
def _from_zoo(
    name: str,
    dtype: str | torch.dtype | None,
    device: str | torch.device | None,
    attn: str | None,
    cache: CacheKind | None,
) -> HFModel:
    """An embedded model, loaded once: a few megabytes whose weights nobody changes. Without a progress bar."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        options = {"attn_implementation": attn, "trust_remote_code": False}
        hf, tokenizer, _ = _from_name(name, None, _placed(dtype, device, None), options)
    finally:
        if shown:
            logging.enable_progress_bar()
    return _wrap(hf if device is None else hf.to(device), tokenizer, name, cache, codebook_beside(_source(name)))


def _placed(dtype: str | torch.dtype | None, device: str | torch.device | None, device_map: Any) -> dict[str, Any]:
    if device is not None and device_map is not None:
        raise ModelError("device and device_map both say where the model goes; give one of them")
    cpu = device_map in (None, "cpu") and torch.device(device or "cpu").type == "cpu"
    return {"dtype": _dtype(dtype) or (torch.float32 if cpu else "auto"), "device_map": device_map}


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ModelError(f"dtype {dtype!r} is no floating-point type; use float32, bfloat16, float16 or float64")
    return found


def _from_name(name: str, tokenizer: Any, placed: dict[str, Any], options: dict[str, Any]) -> tuple[Any, Any, str]:
    source = _source(name)
    _look(source, name, tokenizer is not None)
    trust = options["trust_remote_code"]
    try:
        hf = _weights(source, placed, options)
        given = tokenizer if tokenizer is not None and not isinstance(tokenizer, str | os.PathLike) else None
        return hf, given or AutoTokenizer.from_pretrained(tokenizer or source, trust_remote_code=trust), name
    except ModelError:
        raise
    except Exception as problem:  # transformers raises whatever its parts raise; users get one sentence
        said = " ".join(str(problem).split())[:200]
        raise UnknownModel(f"model {name!r} cannot be loaded: {said}") from problem


def _source(name: str) -> str:
    return str(zoo.path(name.removeprefix(_ZOO))) if name.startswith(_ZOO) else name


def _weights(source: str, placed: dict[str, Any], options: dict[str, Any]) -> Any:
    described, _ = PreTrainedConfig.get_config_dict(source)
    if foreign(described):
        return from_foreign(source, described, placed, options["attn_implementation"])
    config = AutoConfig.from_pretrained(source, trust_remote_code=options["trust_remote_code"])
    refuse(config)
    auto = AutoModelForMaskedLM if _is_masked(config) else AutoModelForCausalLM
    return auto.from_pretrained(source, **placed, **{k: v for k, v in options.items() if v is not None})


def _look(source: str, name: str, has_tokenizer: bool) -> None:
    """Say what is missing before transformers does, at length."""
    folder = Path(source)
    if not folder.is_dir():
        looks_local = folder.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1
        if looks_local:
            known = ", ".join(_ZOO + one for one in zoo.names())
            raise UnknownModel(
                f"there is no model folder {name!r}; give an existing folder, a hub name or one of {known}"
            )
        return
    if not (folder / "config.json").is_file():
        raise UnknownModel(f"the folder {name!r} holds no config.json, so it is no model; give a Hugging Face folder")
    if not any(folder.glob("*.safetensors*")) and not any(folder.glob("*.bin*")):
        raise UnknownModel(f"the folder {name!r} holds a config.json and no weights; put model.safetensors into it")
    if has_tokenizer:
        return
    if not any(folder.glob("tokenizer*")) and not any(folder.glob("*.model")) and not (folder / "vocab.json").is_file():
        raise UnknownModel(f"the folder {name!r} holds no tokenizer; put its files there, or give tokenizer=...")


def _is_masked(config: Any) -> bool:
    named = " ".join(getattr(config, "architectures", None) or [])
    if "CausalLM" in named or "LMHeadModel" in named:
        return False
    if "MaskedLM" in named:
        return True
    kind = config.model_type
    return kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def _wrap(hf: Any, tokenizer: Any, name: str, cache: CacheKind | None, codebook: Codebook | None = None) -> HFModel:
    refuse(hf.config)
    if getattr(hf.config, DIFFUSION, None) and not isinstance(hf, Full):
        hf = Full.of(hf)
    masked = "MaskedLM" in type(hf).__name__ or isinstance(hf, Full)
    if tokenizer is None:
        raise ModelError(f"model {name!r} was given without a tokenizer; add tokenizer=..., an object or a folder")
    if hf.get_output_embeddings() is None and not masked:
        raise ModelError(f"{type(hf).__name__} has no language-model head; load it by AutoModelForCausalLM")
    config = hf.config.get_text_config()
    if len(tokenizer) > config.vocab_size:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens and model {name!r} only {config.vocab_size}: they do not "
            "belong together; give the model's own tokenizer"
        )
    hf.eval()
    if not masked or isinstance(hf, Full):
        settle_attention(hf.hf if isinstance(hf, Full) else hf)
    return HFModel(
        hf,
        tokenizer,
        name,
        context=_context(config),
        eos=_eos(hf, config, tokenizer),
        mask=_mask(config, tokenizer) if masked else None,
        masked=masked,
        codebook=codebook,
        cache=cache or ("slab" if masked or config.model_type in KNOWN else fitting_cache(hf, name)),
    )


def _context(config: Any) -> int | None:
    for field in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(config, field, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _eos(hf: Any, config: Any, tokenizer: Any) -> tuple[int, ...]:
    """Every id that any of the three files calls the end of a text."""
    ids: list[int] = []
    generation = getattr(hf, "generation_config", None)
    for source in (generation, config, tokenizer):
        value = getattr(source, "eos_token_id", None)
        ids += [] if value is None else [value] if isinstance(value, int) else _ints(value)
    return tuple(dict.fromkeys(i for i in ids if 0 <= i < config.vocab_size))


def _ints(values: Iterable[Any]) -> list[int]:
    return [int(value) for value in values]


def _mask(config: Any, tokenizer: Any) -> int | None:
    for source in (tokenizer, config):
        value = getattr(source, "mask_token_id", None)
        if value is not None:
            return int(value)
    return None
