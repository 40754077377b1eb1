"""What may be asked: text, chat messages or token ids, one or many, turned into ids and checked against the model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from decodekit.core.bound import Model
from decodekit.errors import PromptError
from decodekit.run.results import TEMPLATE, Prompt

DEFAULT_TOKENS: Final = 256
"""Tokens generated when `max_tokens` is not given, or fewer where the context ends sooner."""

_MASKS: Final = re.compile(r"\{mask(?:\*([0-9]{1,5}))?\}")

_KINDS: Final = "give a string, chat messages ({'role': ..., 'content': ...}), token ids, or a list of these"


def prompts_of(value: Any, model: Model) -> tuple[list[Prompt], bool]:
    """(prompts as the model reads them, whether `value` was a batch).

    A string, a list of chat messages and a list of ids are one prompt; a list of prompts is a batch, and its answer a
    list. An array or tensor of ids counts as a list. For a masked language model a prompt may be a template: a string
    with `{mask}` or `{mask*8}` where cells are to be filled, or ids that hold the mask token.

    Raises:
        PromptError: empty, of an unknown kind, or with ids that the model does not know; the message says which.
    """
    value = _plain(value)
    if _is_one(value):
        return [_prompt(value, model, "the prompt")], False
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_prompt(_plain(one), model, f"prompt {i}") for i, one in enumerate(value)], True
    raise PromptError(f"the prompt is of type {type(value).__name__}; {_KINDS}")


def room(prompt: Prompt, model: Model, max_tokens: int | None, which: str = "the prompt") -> int:
    """How many tokens may be generated after `prompt`: `max_tokens`, or what fits if it is None.

    Raises:
        PromptError: the prompt fills the context, or `max_tokens` more do not fit.
    """
    length, context = len(prompt.tokens), model.context
    if prompt.kind == TEMPLATE:
        return _more_than_the_template(length, model, max_tokens, which)
    if context is None:
        return DEFAULT_TOKENS if max_tokens is None else max_tokens
    if length >= context:
        raise PromptError(
            f"{which} has {length} tokens, and the context of model {model.name!r} is {context}, prompt and answer "
            "together; shorten the prompt"
        )
    if max_tokens is None:
        return min(DEFAULT_TOKENS, context - length)
    if length + max_tokens > context:
        raise PromptError(
            f"{which} has {length} tokens and max_tokens={max_tokens} more do not fit the context of model "
            f"{model.name!r}, which is {context}; ask for at most {context - length} or shorten the prompt"
        )
    return max_tokens


def _more_than_the_template(length: int, model: Model, max_tokens: int | None, which: str) -> int:
    """A template is filled where it has mask tokens, and goes on behind its end only if `max_tokens` says so."""
    more = max_tokens or 0
    if model.context is not None and length + more > model.context:
        raise PromptError(
            f"{which} is a canvas of {length + more} cells, and the context of model {model.name!r} is "
            f"{model.context}; shorten it"
        )
    return more


def _plain(value: Any) -> Any:
    """Arrays and tensors as lists, tuples as lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _is_one(value: Any) -> bool:
    if isinstance(value, str | Mapping):
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(one, int | Mapping) for one in value)


def _prompt(value: Any, model: Model, which: str) -> Prompt:
    if isinstance(value, str):
        return _kind("text", value, _from_text(value, model, which), model)
    if isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in value):
        _check_ids(value, model, which)
        return _kind("tokens", value, _begun(value, model, which), model)
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        return _kind("chat", value, _from_chat(value, model, which), model)
    said = f"a list that holds {type(value[0]).__name__}" if isinstance(value, list) else type(value).__name__
    raise PromptError(f"{which} is {said}; {_KINDS}")


def _kind(kind: str, given: Any, ids: list[int], model: Model) -> Prompt:
    """A prompt with mask tokens in it is a template, however it was given."""
    return Prompt(TEMPLATE if model.mask is not None and model.mask in ids else kind, given, ids)


def _masks(text: str, model: Model, which: str) -> str:
    """`text` with `{mask}` and `{mask*8}` written as the tokenizer's own mask token, so often."""
    if model.mask is None or not _MASKS.search(text):
        return text
    word = getattr(model.tokenizer, "mask_token", None) or model.tokenizer.convert_ids_to_tokens(model.mask)
    written = _MASKS.sub(lambda found: str(word) * int(found[1] or 1), text)
    asked = sum(int(found[1] or 1) for found in _MASKS.finditer(text)) + text.count(str(word))
    made = model.tokenizer.encode(written).count(model.mask)
    if made != asked:
        raise PromptError(
            f"{which} asks for {asked} mask tokens, and the tokenizer of model {model.name!r} makes {made} of its "
            f"{word!r}; give token ids with {model.mask} where a cell is to be filled"
        )
    return written


def _from_text(text: str, model: Model, which: str) -> list[int]:
    tokenizer = model.tokenizer
    text = _masks(text, model, which)
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise PromptError(f"{which} holds a lone surrogate at character {problem.start}; repair its encoding") from None
    ids = [int(i) for i in tokenizer.encode(text)]
    bare = [int(i) for i in tokenizer.encode(text, add_special_tokens=False)]
    closing = {*model.eos, getattr(tokenizer, "sep_token_id", None)}
    while ids and ids[-1] in closing and len(ids) > len(bare):  # text is to be continued, not closed
        ids.pop()
    return _begun(ids, model, which)


def _from_chat(messages: Sequence[Mapping[str, Any]], model: Model, which: str) -> list[int]:
    for i, message in enumerate(messages):
        if not ({"role", "content"} <= message.keys()):
            raise PromptError(
                f"message {i} of {which} has no {'role' if 'role' not in message else 'content'!s}; {_KINDS}"
            )
    if not getattr(model.tokenizer, "chat_template", None):
        raise PromptError(
            f"{which} is a chat, and the tokenizer of model {model.name!r} has no chat template; "
            "give a string, or use an instruction-tuned model"
        )
    going_on = messages[-1]["role"] == "assistant"  # the model is to finish a turn that was begun for it
    try:
        made = model.tokenizer.apply_chat_template(
            [dict(one) for one in messages],
            add_generation_prompt=not going_on,
            continue_final_message=going_on,
            tokenize=True,
            return_dict=True,
        )
    except Exception as problem:  # templates raise whatever their authors chose
        said = " ".join(str(problem).split())
        raise PromptError(f"the chat template of model {model.name!r} refuses {which}: {said}") from problem
    return [int(i) for i in made["input_ids"]]


def _check_ids(ids: Sequence[int], model: Model, which: str) -> None:
    for i, token in enumerate(ids):
        if not 0 <= token < model.vocab:
            raise PromptError(
                f"token {i} of {which} is {token}, and the ids of model {model.name!r} go from 0 to {model.vocab - 1}; "
                "tokenize the prompt with this model's tokenizer"
            )


def _begun(ids: list[int], model: Model, which: str) -> list[int]:
    """`ids`, or a begin token where there are none: a model must read something before it can go on."""
    if ids:
        return ids
    begin = getattr(model.tokenizer, "bos_token_id", None)
    if begin is None:
        raise PromptError(
            f"{which} is empty, and model {model.name!r} has no begin token to start from; give at least one token"
        )
    return [int(begin)]
