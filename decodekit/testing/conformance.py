"""The conformance suite: everything that a plugin declares, checked.

from decodekit.testing import check_plugin, checks_for

check_plugin(MyWarper(0.5))

@pytest.mark.parametrize("check", checks_for(MyWarper(0.5)), ids=str)
def test_my_warper(check): check()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from decodekit.testing import general, promises
from decodekit.testing.subject import ConformanceError, Subject, subject

Applies = Callable[[Subject], bool]


def _always(s: Subject) -> bool:
    return True


def _role(role: str) -> Applies:
    return lambda s: s.has(role)


def _keeps(exactness: str, *roles: str) -> Applies:
    return lambda s: s.about.exactness == exactness and s.causal and any(s.has(role) for role in roles)


def _exact_law(s: Subject) -> bool:
    """Whose own texts have the law: a selector, or a population that is exact."""
    return s.about.exactness == "exact" and s.causal and (s.has("selector") or s.has("warper") or s.has("population"))


CHECKS: tuple[tuple[Callable[[Subject], None], Applies], ...] = (
    (general.options_are_frozen, _always),
    (general.unknown_options_are_refused, _always),
    (general.spec_round_trip, _always),
    (general.bind_runs_no_model, _always),
    (general.refusals_are_kept, _always),
    (general.same_seed_same_tokens, _always),
    (general.batch_is_single_runs, _always),
    (general.done_rows_are_ignored, lambda s: not s.has("population")),
    (general.only_what_was_asked_is_taken, _always),
    (general.observers_change_nothing, _role("observer")),
    (general.canvas_is_filled, lambda s: not s.causal),
    (promises.law_of_the_model, lambda s: _exact_law(s) and not s.needs_constraint),
    (promises.law_under_a_constraint, lambda s: _exact_law(s) and s.takes("constraint")),
    (
        promises.law_with_guesses,
        lambda s: _exact_law(s) and not s.has("population") and not s.has("proposer") and s.takes("guesses"),
    ),
    (promises.weighted_estimates, _keeps("weighted", "selector", "population")),
    (promises.same_texts_as_plain, _keeps("exact", "proposer")),
    (promises.warps_not_in_place, _role("warper")),
    (promises.many_positions_are_single_ones, _role("warper")),
    (promises.mask_is_admits, _role("constraint")),
    (promises.moves_are_replays, _role("constraint")),
)


@dataclass(frozen=True)
class Check:
    """One promise of one plugin; call it. It raises :class:`ConformanceError` if the promise is not kept.

    reason: why it is known to fail; then it raises if the check passes after all.
    """

    name: str
    subject: Subject
    work: Callable[[Subject], None]
    reason: str = ""

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> None:
        """Run it."""
        try:
            self.work(self.subject)
        except Exception as error:
            if self.reason:
                return
            plugin = self.subject.about.name
            said = str(error) if isinstance(error, ConformanceError) else f"{type(error).__name__}: {error}"
            raise ConformanceError(f"{plugin}: check {self.name!r} failed: {said}") from error
        if self.reason:
            raise ConformanceError(
                f"{self.subject.about.name}: check {self.name!r} passes, though it is expected to fail "
                f"({self.reason}); drop the expectation"
            )


def checks_for(instance: Any, *, expected_failures: Mapping[str, str] | None = None, **context: Any) -> list[Check]:
    """The checks that apply to a plugin instance, for `pytest.mark.parametrize("check", ..., ids=str)`.

    Args:
        instance: an instance of a class decorated with :func:`decodekit.registry.declaration.plugin`.
        expected_failures: check name -> why it fails.
        context: see :func:`check_plugin`.

    Raises:
        ConformanceError: `instance` is no plugin, or an expectation names no check that applies.
    """
    bench = subject(instance, **context)
    expected = dict(expected_failures or {})
    found = [
        Check(work.__name__, bench, work, expected.pop(work.__name__, "")) for work, applies in CHECKS if applies(bench)
    ]
    if expected:
        raise ConformanceError(
            f"expected failures {sorted(expected)} are not among the checks of {bench.about.name}: "
            f"{', '.join(check.name for check in found)}"
        )
    return found


def check_plugin(instance: Any, *, expected_failures: Mapping[str, str] | None = None, **context: Any) -> None:
    """Run every check that applies to a plugin instance, on tiny models in float64; takes a second or a few.

    What it declares decides what is checked: `exact` against the enumeration of every text, `weighted` by unbiased
    estimates, plus what its role and the house promise (same seed, same tokens; a batch is its single runs; ...).
    Statistical checks have fixed seeds and raise a false alarm once in a million.

    Args:
        instance: an instance of a class decorated with :func:`decodekit.registry.declaration.plugin`.
        expected_failures: check name -> why it fails; such a check must fail.
        context: what it is tested with. `model` (default: a :class:`TableModel`, masked if the plugin needs that),
            `partners` (other parts of the strategy), `constraint`, `prompts` and `most` (ragged requests of token ids
            and their most tokens), `horizon` and `samples` (of statistical checks).

    Raises:
        ConformanceError: naming the first check that failed.
    """
    for check in checks_for(instance, expected_failures=expected_failures, **context):
        check()
