"""What a plugin says of itself: its record (:class:`PluginInfo`), and its options put into words."""

from __future__ import annotations

import difflib
import enum
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo

from decodekit.errors import DecodekitError, OptionError

Exactness = Literal["exact", "weighted", "approximate"]
"""From best to worst: a whole keeps what the worst of its parts keeps."""
ROLES: Final = ("proposer", "scorer", "warper", "constraint", "selector", "population", "stop", "observer")
"""In canonical order. Of :data:`SEVERAL` a strategy may have any number, of the others one."""
TASK: Final = "task"
"""What a task is registered as; it answers no question of a round."""
SCORE: Final = "score"
"""What an uncertainty score is registered as."""
APART: Final = {TASK: ("items(self)", "score(self, item, text)"), SCORE: ("needs(self)",)}
"""What is registered in groups of its own, with the methods that it must have."""
SEVERAL: Final = frozenset({"warper", "constraint", "stop", "observer"})


@dataclass(frozen=True)
class PluginInfo:
    """What a plugin declares of itself.

    name: its name in the registry. roles: which questions of a round the object that `bind` gives answers.
    exactness: the distribution of the plain model under the same constraint is kept (`exact`), kept after importance
    weighting (`weighted`), or not promised (`approximate`). requires: capabilities, roles or names without which it
    cannot work. provides: capabilities it offers to others. conflicts_with: capabilities, roles or names it cannot
    stand beside.

    Of a class, `exactness` and `provides` are what it can do with some options; an instance whose options switch
    something off says less (:func:`without`). Three capabilities decide who chooses tokens where no selector is named,
    and what is refused because it could not act (:func:`decodekit.registry.compose.compose`):

    weights: what is chosen has importance weights. randomness: another seed gives another text. distribution: something
    is decided by the whole warped distribution, not by its most probable token alone; a draw is, and so is a rule that
    stops early where the model is sure. A selector that draws gives the last two.
    """

    name: str
    roles: tuple[str, ...]
    exactness: Exactness = "exact"
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    conflicts_with: tuple[str, ...] = ()
    paper: str = ""


def info_of(thing: object) -> PluginInfo | None:
    """The record of a plugin class or instance, or None if `thing` is no plugin."""
    about = getattr(thing, "about", None)
    return about if isinstance(about, PluginInfo) else None


def name_of(thing: object) -> str:
    """The registry name of a plugin class or instance; of anything else the name of its class."""
    about = info_of(thing)
    return about.name if about else (thing if isinstance(thing, type) else type(thing)).__name__


@dataclass(frozen=True)
class Option:
    """One option in words. default: its literal form, or None if the option must be given."""

    name: str
    type: str
    default: str | None
    summary: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.type}" + ("" if self.default is None else f" = {self.default}")


def fields_of(cls: type) -> dict[str, FieldInfo]:
    """The options of a plugin class, in the order in which the constructor takes them."""
    found: dict[str, FieldInfo] = getattr(cls, "__pydantic_fields__", {})
    return {name: info for name, info in found.items() if info.init is not False}


def options_of(cls: type) -> tuple[Option, ...]:
    """The options of a plugin class in words, such as `max_rejects: int >= 1 = 64`."""
    return tuple(
        Option(
            name=name,
            type=_type(info.annotation, info.metadata),
            default=None if info.is_required() else form(_default(info)),
            summary=" ".join((info.description or "").split()),
        )
        for name, info in fields_of(cls).items()
    )


def _default(info: FieldInfo) -> Any:
    """The default itself, not a copy: an object is recognised by its identity."""
    return info.get_default(call_default_factory=True) if info.default_factory else info.default


def changed(part: object) -> dict[str, object]:
    """The options of a plugin instance that differ from their defaults."""
    found = {}
    for name, info in fields_of(type(part)).items():
        value, default = getattr(part, name), _default(info)
        same = value is default if any(True for _ in opaque(value)) else form(value) == form(default)
        if not same:
            found[name] = value
    return found


def without(made: object, *words: str, exactness: Exactness | None = None) -> None:
    """An instance says for itself that it does not give `words`, which others of its class do.

    exactness: what it keeps instead of what its class declares; None for the same.
    """
    about = info_of(made)
    assert about is not None  # set by the decorator
    provides = tuple(one for one in about.provides if one not in words)
    object.__setattr__(made, "about", replace(about, provides=provides, exactness=exactness or about.exactness))


def form(value: object) -> str:
    """A value as a spec string writes it; `<ClassName>` stands for what cannot be written."""
    about = info_of(value)
    if about and not isinstance(value, type):
        options = ", ".join(f"{name}={form(option)}" for name, option in changed(value).items())
        return f"{about.name}({options})" if options else about.name
    if type(value) is list:
        return "[" + ", ".join(map(form, value)) + "]"
    if type(value) is tuple:
        return "(" + ", ".join(map(form, value)) + ("," if len(value) == 1 else "") + ")"
    if type(value) is dict:
        return "{" + ", ".join(f"{form(key)}: {form(item)}" for key, item in value.items()) + "}"
    if is_literal(value):
        return _plain(value)
    return f"<{name_of(value)}>"


def _plain(value: object) -> str:
    """`repr`, without a subclass's own, such as numpy's."""
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, int):
        return int.__repr__(value)
    return float.__repr__(value) if isinstance(value, float) else str.__repr__(str(value))


def is_literal(value: object) -> bool:
    """Whether :func:`form` of `value` can be read back; for containers and nested plugins see :func:`opaque`."""
    if isinstance(value, float):
        return not math.isnan(value)
    return value is None or (isinstance(value, bool | int | str) and not isinstance(value, enum.Enum))


def opaque(value: object) -> Iterator[object]:
    """Whatever within `value` cannot be written in a spec string."""
    if info_of(value) and not isinstance(value, type):
        for option in changed(value).values():
            yield from opaque(option)
    elif type(value) in (list, tuple):
        for item in typing.cast("list[object]", value):
            yield from opaque(item)
    elif type(value) is dict:
        for pair in value.items():
            yield from opaque(pair)
    elif not is_literal(value):
        yield value


_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "a multiple of"}


def _type(annotation: Any, metadata: Any = ()) -> str:
    """An annotation with its bounds in words: `int >= 1`, `"compact" | "flexible"`, `list of str`."""
    if get_origin(annotation) is typing.Annotated:
        inner, *more = get_args(annotation)
        return _type(inner, [*more, *metadata])
    if metadata:
        return " ".join([_type(annotation), ", ".join(filter(None, map(_bound, metadata)))]).strip()
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(form, args))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_type, args))
    if annotation in (None, type(None)):
        return "None"
    if annotation in (Any, object):
        return "anything"
    if origin in (tuple, list, set, frozenset) and args:
        inner = [arg for arg in args if arg is not Ellipsis]
        if len(inner) == 1:
            return f"{origin.__name__} of {_type(inner[0])}"
        return f"({', '.join(map(_type, inner))})"
    if origin is dict:
        return f"dict of {_type(args[0])} to {_type(args[1])}"
    plain = origin or annotation
    return getattr(plain, "__name__", None) or str(plain).replace("typing.", "")


def _short_number(bound: object) -> str:
    return f"{bound:g}" if isinstance(bound, float) else form(bound)


def _bound(mark: object) -> str:
    if isinstance(mark, FieldInfo):
        return ", ".join(filter(None, map(_bound, mark.metadata)))
    found = [
        f"{sign} {_short_number(getattr(mark, key))}"
        for key, sign in _SIGNS.items()
        if getattr(mark, key, None) is not None
    ]
    low, high = getattr(mark, "min_length", None), getattr(mark, "max_length", None)
    found += [f"of length >= {low}"] if low else []
    found += [f"of length <= {high}"] if high is not None else []
    pattern = getattr(mark, "pattern", None)
    return ", ".join([*found, *([f"like {pattern!r}"] if pattern else [])])


def freeze(cls: type, args: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Constructor arguments with a list made a tuple where the option's type knows tuples and no lists."""
    fields = fields_of(cls)
    thaw = {name for name, info in fields.items() if not _mentions(info.annotation, tuple)}
    thaw |= {name for name, info in fields.items() if _mentions(info.annotation, list)}
    named = [name for name, info in fields.items() if not info.kw_only]
    named += [""] * (len(args) - len(named))
    frozen = tuple(a if name in thaw else _frozen(a) for name, a in zip(named, args, strict=False))
    return frozen, {name: a if name in thaw else _frozen(a) for name, a in options.items()}


def _mentions(annotation: Any, kind: type) -> bool:
    found = get_origin(annotation) or annotation
    return found is kind or any(_mentions(arg, kind) for arg in get_args(annotation))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if type(value) in (list, tuple) else value


def explain(
    cls: type, args: tuple[Any, ...], options: Mapping[str, Any], error: pydantic.ValidationError
) -> DecodekitError:
    """A validation error of the constructor `cls(*args, **options)` as one sentence."""
    found = error.errors(include_url=False)
    for one in found:
        own = one.get("ctx", {}).get("error")
        if isinstance(own, DecodekitError):  # a plugin's own check has already said it
            return own
    fields, first = fields_of(cls), found[0]
    given = dict(zip((name for name, info in fields.items() if not info.kw_only), args, strict=False)) | dict(options)
    where = first["loc"]
    key = where[0] if where else ""
    if isinstance(key, int):
        key = (*given, *args)[key]  # a position beyond the options is named by what stands there
    if len(where) == 1 and (sentence := _misfit(cls, str(key), first["type"])):
        return OptionError(sentence)
    if key not in given:
        return OptionError(f"{name_of(cls)}: {_said(first)} ({_known(cls)})")
    several = len(found) > 1 and all(one["loc"][:1] == where[:1] for one in found)  # each member of a union
    inside = "".join(f"[{step}]" for step in where[1:] if isinstance(step, int))
    said = "does not fit" if several else f"{key}{inside} {_said(first)}" if inside else _said(first)
    option = next(option for option in options_of(cls) if option.name == key)
    return OptionError(f"{name_of(cls)}({key}={_short(given[str(key)])}): {said}; the option is {option}")


def _known(cls: type) -> str:
    return f"options are {'; '.join(map(str, options_of(cls)))}" if fields_of(cls) else "it has no options"


def _misfit(cls: type, key: str, kind: str) -> str | None:
    """Arguments that do not fit the signature of a plugin class, in one sentence; None if they do."""
    name, fields = name_of(cls), fields_of(cls)
    match kind:
        case "unexpected_keyword_argument":
            near = difflib.get_close_matches(key, list(fields), n=1)
            return f"{name} has no option {key!r}{f'; did you mean {near[0]!r}?' if near else ''} ({_known(cls)})"
        case "unexpected_positional_argument":
            most = sum(not info.kw_only for info in fields.values())
            return f"{name} takes {f'at most {most}' if most else 'no'} options without a name ({_known(cls)})"
        case "missing" | "missing_argument" | "missing_keyword_only_argument":
            return f"{name} needs its option {key!r} ({_known(cls)})"
        case "multiple_argument_values":
            return f"{name} is given {key!r} twice, by position and by name; drop one ({_known(cls)})"
    return None


def _said(one: Any) -> str:
    if one["type"] in ("value_error", "assertion_error"):
        return str(one["ctx"]["error"]) or "is refused"
    message = "is missing" if one["type"] == "missing" else str(one["msg"])
    return message.removeprefix("Input ") if message.startswith("Input ") else message[:1].lower() + message[1:]


def _short(value: object) -> str:
    text = form(value)
    return text if len(text) <= 60 else text[:57] + "..."
