"""How a class declares itself a plugin: the decorator :func:`plugin`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform, get_args

import pydantic
import pydantic.dataclasses

from decodekit.errors import BrokenPlugin
from decodekit.registry.discovery import declared_as
from decodekit.registry.metadata import APART, ROLES, Exactness, PluginInfo, explain, freeze
from decodekit.registry.spec import joined

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(pydantic.Field,))
def plugin(
    *,
    role: str | tuple[str, ...],
    exactness: Exactness = "exact",
    requires: str | Iterable[str] = (),
    provides: str | Iterable[str] = (),
    conflicts_with: str | Iterable[str] = (),
    paper: str = "",
) -> Callable[[type[T]], type[T]]:
    """Class decorator: makes a class with annotated fields and a method `bind(run)` a plugin.

    The class becomes a frozen pydantic dataclass, so options are validated however it is made (in Python or from a
    spec string): unknown ones are refused, nothing is coerced but an int to a float and a list to a tuple. Options
    may be of any type, a loaded model or another plugin included. `|` joins instances to a strategy. What the
    arguments mean is said at :class:`PluginInfo`, which is found at the class attribute `about`.

    Raises:
        BrokenPlugin: the declaration contradicts itself (seen when the module is imported).
        OptionError: from the constructor, for options that are unknown, missing, of the wrong type or out of range.
    """

    def declare(cls: type[T]) -> type[T]:
        roles = _words(role)
        _refuse_bad_class(cls, roles, exactness)
        config = pydantic.ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
        made = cast(Any, pydantic.dataclasses.dataclass(frozen=True, config=config)(cls))
        made.about = PluginInfo(
            declared_as(cls), roles, exactness, _words(requires), _words(provides), _words(conflicts_with), paper
        )
        made.__init__ = _speaking(made.__init__)
        made.__or__, made.__ror__ = _join, _join_right
        return cast("type[T]", made)

    return declare


def _words(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _refuse_bad_class(cls: type, roles: tuple[str, ...], exactness: str) -> None:
    unknown = [role for role in roles if role not in ROLES and not (len(roles) == 1 and role in APART)]
    if unknown or not roles or len(set(roles)) < len(roles):
        said = f"the role {unknown[0]!r}" if unknown else f"the roles {roles!r}"
        raise BrokenPlugin(f"plugin class {cls.__qualname__} declares {said}; roles are {', '.join(ROLES)}, each once")
    if exactness not in get_args(Exactness):
        raise BrokenPlugin(
            f"plugin class {cls.__qualname__} declares exactness={exactness!r}; "
            f"write one of {', '.join(get_args(Exactness))}"
        )
    for method in APART.get(roles[0], ("bind(self, run)",)):
        if not callable(getattr(cls, method.partition("(")[0], None)):
            raise BrokenPlugin(f"plugin class {cls.__qualname__} has no method {method}; define it")
    if "about" in cls.__dict__ or "ClassVar" not in str(inspect.get_annotations(cls).get("about", ClassVar)):
        raise BrokenPlugin(f"plugin class {cls.__qualname__} has an option `about`, which holds its record; rename it")


def _speaking(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor, with errors that are sentences and lists accepted for tuples."""

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **options: Any) -> None:
        args, options = freeze(type(self), args, options)
        try:
            init(self, *args, **options)
        except pydantic.ValidationError as error:
            raise explain(type(self), args, options, error) from None

    return __init__


def _join(self: object, other: object) -> object:
    return joined(self, other)


def _join_right(self: object, other: object) -> object:
    return joined(other, self)
