"""What a user calls: :func:`generate`, :func:`stream`, and :class:`Decoder` for many calls with one preparation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Unpack

from decodekit.core.bound import Model
from decodekit.core.cost import Cost
from decodekit.core.stopping import Budget, Deadline
from decodekit.errors import CompositionError, OptionError
from decodekit.models.load import load
from decodekit.registry import discovery
from decodekit.registry.compose import compose, copies
from decodekit.registry.metadata import info_of
from decodekit.registry.spec import Strategy
from decodekit.run.options import CallOptions, Options
from decodekit.run.progress import bar
from decodekit.run.prompts import prompts_of, room
from decodekit.run.result_building import result
from decodekit.run.results import Piece, Prompt, Result
from decodekit.run.session import Outcome, Session, Setup, Want
from decodekit.run.streaming import pieces
from decodekit.text.codec import Codec
from decodekit.trace.merging import merged
from decodekit.trace.trace import Trace


class Decoder:
    """A model, a strategy and a constraint, prepared once and called many times.

    Args:
        model: a path, a hub name, `zoo:NAME`, a loaded transformers model (with `tokenizer`), a (model, tokenizer)
            pair, or a decodekit Model.
        strategy: a spec string, a plugin, a list of plugins, or None. Where it names no selector, the most probable
            token is taken, with a constraint as without; `sample` is filled in where something asks for randomness
            (`temperature`, `top_p`, `best_of`, n > 1), `mask` where something needs weights (`smc`). The rule is
            :func:`decodekit.registry.compose.compose`; `Result.spec` says what ran.
        constraint: a constraint plugin, or what one can be made of (a pydantic class, a compiled pattern, a list of
            strings ...), a list of plugins that must all hold, or None.
        tokenizer, dtype, device, device_map, attn: as for :func:`decodekit.models.load.load`.
        options: defaults of every call, see :class:`decodekit.run.options.Options`.

    Raises:
        DecodekitError: in one sentence, before any model runs.
    """

    def __init__(
        self,
        model: object,
        strategy: object = None,
        constraint: object = None,
        *,
        tokenizer: Any = None,
        dtype: Any = None,
        device: Any = None,
        device_map: Any = None,
        attn: str | None = None,
        **options: Unpack[CallOptions],
    ) -> None:
        self.options = Options().having(options)
        chosen = Strategy.of(strategy)  # read before a model is loaded: a slip in it should not cost minutes
        limits = _constraints(constraint)
        loading = {"dtype": dtype, "device": device, "device_map": device_map, "attn": attn}
        self.model: Model = load(model, tokenizer=tokenizer, **loading)
        self._codec: Codec | None = None
        self._chosen, self._limits = chosen, limits
        self._setups: dict[bool, Setup] = {}
        self._opened: dict[object, Model] = {}
        self._loading = {name: value for name, value in loading.items() if name != "attn"}
        self.setup = self._setup(self.options)
        _, kit = self.setup.bound(self.options, Cost())  # what cannot be bound is refused here
        self.width: int = kit.population.width

    @property
    def spec(self) -> str:
        """The canonical strategy, defaults filled in as for this decoder's own options."""
        return self.setup.spec

    def setup_for(self, draws: bool) -> Setup:
        """What calls run with; `draws`: texts that differ are wanted, which a default selector follows."""
        if draws not in self._setups:
            composition = compose(self._chosen, self.model.provides, self._limits, draws)
            for made in self._setups.values():
                if made.spec == str(composition):
                    break
            else:
                found = (*self._limits, *composition.of("constraint"))
                readings = tuple(part for part in found if hasattr(part, "value"))[:1]
                made = Setup(self.model, composition, str(composition), self._open, self._text_codec, readings)
            self._setups[draws] = made
        return self._setups[draws]

    def _setup(self, options: Options) -> Setup:
        setup = self.setup_for(options.n > 1)
        if why := copies(setup.composition, options.n):
            raise OptionError(why)
        return setup

    def generate(self, prompts: Any, **options: Unpack[CallOptions]) -> Any:
        """A :class:`Result` for one prompt, a list of them in the same order for a list of prompts.

        Prompts: a string, chat messages, token ids, or a list of these. Ctrl-C ends the call and not the program:
        whatever is finished is returned, the rest has what there was and `finish == "interrupted"`.

        Raises:
            PromptError, OptionError: before any model runs. The latter also for n > 1 where a named selector would
                write the same text n times.
        """
        settings = self._planned(self.options.having(options))
        setup = self._setup(settings)
        asked, many = prompts_of(prompts, self.model)
        wants = self._wants(asked, settings, many)
        found = _scored(self._results(setup, asked, wants, settings), settings)
        return found if many else found[0]

    def stream(self, prompt: Any, **options: Unpack[CallOptions]) -> Iterator[Piece]:
        """The text of one prompt as soon as it is settled; the last :class:`Piece` holds the :class:`Result`.

        The pieces together are exactly what :meth:`generate` gives: the same tokens, the same characters.

        Raises:
            PromptError, OptionError: at the call, before any model runs.
            CompositionError: a population decides at its end which text is the answer, so nothing can be streamed.
        """
        settings = self._planned(self.options.having(options))
        asked, many = prompts_of(prompt, self.model)
        if many:
            raise OptionError(f"stream takes one prompt and was given {len(asked)}; use generate, or stream one by one")
        if settings.n > 1:
            raise OptionError(f"stream gives one sample, and n={settings.n} were asked for; use generate, or n=1")
        if self.width > 1:
            raise CompositionError(
                f"the strategy {self.spec!r} keeps {self.width} particles and chooses among them at the end, so its "
                "text cannot be streamed; use generate"
            )
        cost, setup = Cost(), self._setup(settings)
        session = Session(setup, settings, self._wants(asked, settings, False), cost, _deadline(settings))
        return pieces(session, setup, settings, asked[0], cost)

    def _planned(self, options: Options) -> Options:
        """With what the wanted scores need, or a refusal."""
        if not options.scores:
            return options
        from decodekit.scores.plan import planned

        return planned(options, self.width, self.model.tokenizer, self.model.vocab)

    def _wants(self, asked: list[Prompt], options: Options, many: bool) -> list[Want]:
        if options.batch_size is not None and self.width > options.batch_size:
            raise OptionError(
                f"batch_size={options.batch_size} cannot hold one population of the strategy {self.spec!r}, which has "
                f"{self.width} rows; raise batch_size or ask for fewer particles"
            )
        wants = []
        for which, prompt in enumerate(asked):
            more = room(prompt, self.model, options.max_tokens, f"prompt {which}" if many else "the prompt")
            limit = len(prompt.tokens) + more
            wants += [Want(which, number, prompt, limit) for number in range(options.n)]
        return wants

    def _results(self, setup: Setup, asked: list[Prompt], wants: list[Want], options: Options) -> list[Result]:
        cost, until = Cost(), _deadline(options)
        rows: list[list[Outcome]] = []  # of each want
        traces: list[tuple[Trace | None, int]] = []
        step = max(1, options.rows // self.width)  # groups at once
        with bar(len(wants), options.progress) as advance:
            while len(rows) < len(wants):
                first = len(rows)
                ended, session = _over(until, cost, options), None
                try:
                    if not ended:
                        session = Session(setup, options, wants[first : first + step], cost, until)
                        for _ in session.rounds():
                            advance(first + session.settled())
                except KeyboardInterrupt:
                    ended = "interrupted"
                if session is not None:
                    rows += [found or [_nothing("interrupted")] for found in session.outcomes()]
                    traces.append((session.trace(), first))
                if ended:
                    rows += [[_nothing(ended)] for _ in wants[len(rows) :]]
        trace = merged([(trace, first) for trace, first in traces if trace is not None])
        found = []
        for which, prompt in enumerate(asked):
            mine = range(which * options.n, (which + 1) * options.n)  # the wants of this prompt
            view = None if trace is None else trace.of(mine)
            found.append(result(setup, options, prompt, [rows[i] for i in mine], cost, view))
        return found

    def _open(self, name: object) -> Model:
        """A second model, opened once and kept for the decoder's life."""
        key = name if isinstance(name, str) else id(name)
        if key not in self._opened:
            self._opened[key] = load(name, **(self._loading if isinstance(name, str) else {}))
        return self._opened[key]

    def _text_codec(self) -> Codec:
        if self._codec is None:
            self._codec = Codec(self.model.tokenizer)
        return self._codec


def generate(
    model: object,
    prompt: Any,
    *,
    strategy: object = None,
    constraint: object = None,
    tokenizer: Any = None,
    dtype: Any = None,
    device: Any = None,
    device_map: Any = None,
    attn: str | None = None,
    **options: Unpack[CallOptions],
) -> Any:
    """Generate with `model` after `prompt`: one :class:`Result` for one prompt, a list for a list.

    A model given by name is loaded at every call (an embedded one once); for many calls make a :class:`Decoder`, whose
    arguments these are, and whose :meth:`Decoder.generate` says what prompts may be.

    Example:
        >>> out = generate("zoo:base", "Ada Park is 36.", max_tokens=8)
        >>> out.finish
        'length'
    """
    made = Decoder(
        model,
        strategy,
        constraint,
        tokenizer=tokenizer,
        dtype=dtype,
        device=device,
        device_map=device_map,
        attn=attn,
        **options,
    )
    return made.generate(prompt)


def stream(
    model: object,
    prompt: Any,
    *,
    strategy: object = None,
    constraint: object = None,
    tokenizer: Any = None,
    dtype: Any = None,
    device: Any = None,
    device_map: Any = None,
    attn: str | None = None,
    **options: Unpack[CallOptions],
) -> Iterator[Piece]:
    """The text after `prompt` as soon as it is settled, see :meth:`Decoder.stream`; arguments of :func:`generate`."""
    made = Decoder(
        model,
        strategy,
        constraint,
        tokenizer=tokenizer,
        dtype=dtype,
        device=device,
        device_map=device_map,
        attn=attn,
        **options,
    )
    return made.stream(prompt)


def constraint_of(value: object) -> Any:
    """`value` as a constraint plugin; what is no plugin goes to the function registered as `constraint.of`."""
    about = info_of(value)
    if about is not None and "constraint" not in about.roles:
        raise OptionError(
            f"constraint={about.name} is no constraint but a {about.roles[0]}; join it to the strategy instead"
        )
    if about is not None and not isinstance(value, type):
        return value
    return discovery.default("constraint.of")(value)


def _constraints(value: object) -> tuple[Any, ...]:
    """One constraint, or a list of constraint plugins, all of which must hold."""
    if value is None:
        return ()
    if isinstance(value, list | tuple) and value and all(info_of(one) for one in value):
        return tuple(map(constraint_of, value))
    return (constraint_of(value),)


def _scored(results: list[Result], options: Options) -> list[Result]:
    """With the scores that were asked for."""
    if not options.scores:
        return results
    from decodekit.scores.evaluate import evaluated
    from decodekit.scores.plan import scores_of
    from decodekit.scores.tools import Tools

    wanted = scores_of(options.scores)
    return [replace(one, scores=evaluated([one], wanted, Tools())[0]) for one in results]


def _deadline(options: Options) -> Deadline | None:
    return None if options.max_seconds is None else Deadline(time.monotonic() + options.max_seconds)


def _over(until: Deadline | None, cost: Cost, options: Options) -> str:
    """Why no further batch is begun, or nothing."""
    if until is not None and until.passed():
        return until.reason
    if options.max_fed is not None and Budget(cost, options.max_fed).passed():
        return Budget.reason
    return ""


def _nothing(finish: str) -> Outcome:
    return Outcome([], finish, 0.0, 0.0, 0)
