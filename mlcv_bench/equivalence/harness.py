"""The one check: a function's formulations compared with the first, exactly and to rounding; negative controls.

In a negative control something is made wrong on purpose: a check that does not notice proves nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.equivalence.comparison import (
    Result,
    as_control,
    continuous,
    judge,
    longest_reduction,
    tolerance_of,
    type_of,
)
from mlcv_bench.equivalence.evidence import (
    KINK_REASON,
    Cotangent,
    Evidence,
    State,
    clear_of_kinks,
    observe,
)
from mlcv_bench.equivalence.exact import SumLedger, check_whole_inputs, proved_exactly
from mlcv_bench.equivalence.randomness import COTANGENT_RANGE, INPUT_RANGE, generator, normal, whole
from mlcv_bench.equivalence.request import MODES, VerifyRequest
from mlcv_bench.equivalence.subject import Finding
from mlcv_bench.torch_private import DispatchMode
from mlcv_bench.trials import NotApplicableError

Arrangement = Callable[[Evidence], Evidence]
"""Brings gradients and statistics into the layout in which all formulations are compared."""


def as_shown(shown: Evidence) -> Evidence:
    """Arrange nothing: the module has the layout that all are compared in."""
    return shown


def outputs_alone(shown: Evidence) -> Evidence:
    """Leave out weight gradients and statistics, which map to no other formulation's."""
    return replace(shown, weight_gradients={}, statistics={})


def arranged_by(mapper: Callable[[State], State]) -> Arrangement:
    """Arrange gradients and statistics as weights are."""
    return lambda shown: replace(
        shown, weight_gradients=mapper(shown.weight_gradients), statistics=mapper(shown.statistics)
    )


@dataclass(frozen=True, slots=True)
class Formulation:
    """One way to compute the function."""

    name: str
    module: nn.Module
    arrange: Arrangement = as_shown


@dataclass(frozen=True, slots=True)
class Reformulation:
    """A function in several formulations, all with the same weights; the first is the reference.

    Args:
        key: the case's name, which its random numbers depend on.
        image: shape of the input batch.
        exact: the formulations with whole weights, in float64.
        drawn: the formulations with normal weights, in float64.
        controls: what is made wrong on purpose.
        modes: train and eval, eval alone, or None where modes make no difference.
        exact_mode: the mode of the exact check.
        kinks: whether something in them has a kink, as a ReLU has.
        simplest: which of them is quickest to ask for kinks and has the fewest, longest sums.

    """

    key: str
    image: tuple[int, ...]
    exact: Sequence[Formulation]
    drawn: Sequence[Formulation]
    controls: Sequence[NegativeControl]
    modes: Sequence[str | None] = (None,)
    exact_mode: str | None = None
    kinks: bool = False
    simplest: int = 0


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what formulations are compared: one input, one gradient of a loss, a type, a mode, and what may differ.

    A tolerance of 0 asks for the same bits. Where the input is not `clear` of kinks there are no gradients to compare.
    `logits` says that this is what the outputs are.
    """

    image: Tensor
    cotangent: Cotangent | None
    dtype: str
    mode: str | None
    tolerance: float
    clear: bool = True
    largest_sum: float | None = None
    logits: bool = False

    def named(self, quantity: str) -> str:
        """Return what results call a quantity."""
        return "logits" if self.logits and quantity == "output" else quantity

    def look(self, module: nn.Module, *, gradients: bool = True, watch: DispatchMode | None = None) -> Evidence:
        """Run a module once."""
        cotangent = self.cotangent if gradients and self.clear else None
        return observe(module, self.image, cotangent, train=self.mode == "train", watch=watch)

    def judge(self, comparison: str, quantity: str, reference: Result, other: Result) -> Finding:
        """Compare two results of such runs."""
        return judge(
            comparison,
            self.named(quantity),
            reference,
            other,
            tolerance=self.tolerance,
            dtype=self.dtype,
            mode=self.mode,
            largest_sum=self.largest_sum,
        )


def check(what: Reformulation, request: VerifyRequest) -> Iterator[Finding]:
    """Compare all formulations with the reference, exactly, then to rounding in each type and mode.

    Each time the negative controls follow.
    """
    yield from proved_exactly(_check_exactly(what, request))
    for dtype in request.dtypes:
        # Whatever a cast loses, all lose alike: they hold the same numbers before and after.
        for formulation in what.drawn:
            formulation.module.to(request.device, type_of(dtype))
        for mode in what.modes:
            yield from _check_to_rounding(what, request, dtype, mode)


def _check_exactly(what: Reformulation, request: VerifyRequest) -> Iterator[Finding]:
    source = partial(generator, request.seed, what.key)

    def cotangent(shape: Sequence[int]) -> Tensor:
        return whole(shape, COTANGENT_RANGE, source("cotangent"))

    for formulation in what.exact:
        formulation.module.to(request.device)
    image = whole(what.image, INPUT_RANGE, source("image", 0)).to(request.device)
    check_whole_inputs(image, what.exact[0].module.parameters())
    at = Conditions(image, cotangent, "float64", what.exact_mode, tolerance=0.0)
    ledger = SumLedger()
    evidence = [at.look(formulation.module, watch=ledger) for formulation in what.exact]
    yield from compare(what.exact, evidence, replace(at, largest_sum=ledger.certify()), what.controls)


def _check_to_rounding(what: Reformulation, request: VerifyRequest, dtype: str, mode: str | None) -> Iterator[Finding]:
    source = partial(generator, request.seed, what.key)

    def draw(attempt: int) -> Tensor:
        return normal(what.image, source("image", attempt)).to(request.device, type_of(dtype))

    def cotangent(shape: Sequence[int]) -> Tensor:
        return normal(shape, source("cotangent"))

    simplest = what.drawn[what.simplest].module
    image, clear = clear_of_kinks(simplest, draw, train=mode == "train") if what.kinks else (draw(0), True)
    tolerance = tolerance_of(dtype, longest_reduction(simplest))
    at = Conditions(image, cotangent, dtype, mode, tolerance, clear)
    yield from compare(what.drawn, [at.look(one.module) for one in what.drawn], at, what.controls)


def compare(
    formulations: Sequence[Formulation],
    evidence: Sequence[Evidence],
    at: Conditions,
    controls: Sequence[NegativeControl] = (),
) -> Iterator[Finding]:
    """Judge everything that every formulation showed by what the first one did, then make the negative controls."""
    train = at.mode == "train"
    reference, *others = (
        formulation.arrange(shown).quantities(train=train)
        for formulation, shown in zip(formulations, evidence, strict=True)
    )
    for formulation, other in zip(formulations[1:], others, strict=True):
        title = f"{formulations[0].name} = {formulation.name}"
        for quantity, result in reference.items():
            yield at.judge(title, quantity, result, other.get(quantity, {}))
        if not at.clear:
            yield Finding(
                title, "gradients", "rounding", dtype=at.dtype, mode=at.mode, status="skipped", reason=KINK_REASON
            )
    for control in controls:
        wanted = control.exact if at.tolerance == 0 else at.mode is None or at.mode in control.modes
        if wanted and (at.clear or control.quantity != "weight gradients"):
            yield _controlled(control, formulations, reference, at)


def _controlled(
    control: NegativeControl, formulations: Sequence[Formulation], reference: dict[str, Result], at: Conditions
) -> Finding:
    """Make one thing wrong, run the formulation as before, and judge where it must show."""
    formulation = formulations[control.formulation]
    run = partial(at.look, formulation.module, gradients=control.quantity == "weight gradients")
    try:
        with control.make(ControlSite(formulation.module, run, at.dtype, exact=at.tolerance == 0)):
            wrong = run()
    except NotApplicableError as error:
        return Finding(
            *(control.name, at.named(control.quantity), "control"),
            dtype=at.dtype,
            mode=at.mode,
            status="skipped",
            reason=str(error),
        )
    shown = wrong if control.quantity == "output" else formulation.arrange(wrong)
    other = shown.quantities(train=at.mode == "train")
    return as_control(
        at.judge(control.name, control.quantity, reference[control.quantity], other.get(control.quantity, {}))
    )


# Negative controls --------------------------------------------------------------------------------------------------

NUDGES = {"float64": 1e-6, "float32": 1e-1, "bfloat16": 1e3, "float16": 1e2}
"""By how much of its tensor's largest magnitude one weight is moved, for each type; 1 in the exact checks."""
NO_WEIGHTS = "the first network has no weights, so there is none to nudge"


@dataclass(frozen=True, slots=True)
class ControlSite:
    """Where something is made wrong: the formulation's module, how to run it as the check does, in which type."""

    module: Any
    run: Callable[[], object]
    dtype: str
    exact: bool = False

    @contextlib.contextmanager
    def nudged(self, weight: Tensor, position: Sequence[int] | None = None) -> Iterator[None]:
        """Move one value of a weight for a while."""
        with put_back(weight):
            nudge(weight, self.dtype, exact=self.exact, position=position)
            yield


@dataclass(frozen=True, slots=True)
class NegativeControl:
    """Something made wrong in formulation number `formulation`, inside `with control.make(site)`.

    It must show in one quantity. It is made in its modes, in exact checks where it is `exact`, and with one group
    unless it needs `several`.
    """

    name: str
    formulation: int
    quantity: str
    make: Callable[[ControlSite], AbstractContextManager[None]]
    modes: tuple[str, ...] = MODES
    exact: bool = True
    several: bool = False


def for_groups(controls: Sequence[NegativeControl], groups: int) -> list[NegativeControl]:
    """Leave out what needs several groups where there is one."""
    return [control for control in controls if groups > 1 or not control.several]


def nudge(weight: Tensor, dtype: str, *, exact: bool = False, position: Sequence[int] | None = None) -> None:
    """Move one value of a weight, in place: by 1 in an exact check, else by `NUDGES` of the largest magnitude.

    Args:
        weight: the tensor to change.
        dtype: the type that is checked.
        exact: whether the check is exact.
        position: which value; by default the one in the middle of every axis.

    """
    index = tuple(position) if position is not None else tuple(size // 2 for size in weight.shape)
    with torch.no_grad():
        step = 1.0 if exact else NUDGES[dtype] * float(weight.abs().max())
        weight[index] += step


@contextlib.contextmanager
def put_back(weight: Tensor) -> Iterator[Tensor]:
    """Lend a weight to be changed, and put its values back afterwards."""
    kept = weight.detach().clone()
    try:
        yield weight
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def first_weight_nudged(site: ControlSite) -> AbstractContextManager[None]:
    """Move the middle value of the module's first weight."""
    return site.nudged(next(site.module.parameters()))


@contextlib.contextmanager
def cut_off(place: str, site: ControlSite) -> Iterator[None]:
    """Cut the part at `place` off the backward pass; outputs stay the same."""
    handle = site.module.get_submodule(place).register_forward_hook(lambda _module, _inputs, output: output.detach())
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def first_two_swapped(parts: str, site: ControlSite) -> Iterator[None]:
    """Exchange the first two modules of a list."""
    modules: nn.ModuleList = getattr(site.module, parts)
    first, second = modules[0], modules[1]
    modules[0], modules[1] = second, first
    try:
        yield
    finally:
        modules[0], modules[1] = first, second


def loudest_weight_nudged(network: nn.Module, shown: Evidence) -> NegativeControl:
    """Return the control that nudges the weight that the output depends on most, as far as gradients tell.

    Outputs that are whole by nature, as classes are, follow no nudge: there the whole tensor is negated.
    """
    gradients = shown.weight_gradients or {name: weight.detach() for name, weight in network.named_parameters()}
    gradients = {name: gradient for name, gradient in gradients.items() if gradient.numel()}
    smooth = any(isinstance(part, Tensor) and continuous(part) for part in shown.output.values())

    @contextlib.contextmanager
    def make(site: ControlSite) -> Iterator[None]:
        if not gradients:
            raise NotApplicableError(NO_WEIGHTS)
        name = max(gradients, key=lambda key: float(gradients[key].abs().max()))
        gradient = gradients[name]
        weight = network.get_parameter(name)
        if smooth:
            position = [int(index) for index in torch.unravel_index(gradient.abs().argmax(), gradient.shape)]
            with site.nudged(weight, position):
                yield
        else:
            with put_back(weight), torch.no_grad():
                weight.neg_()
                yield

    return NegativeControl("one weight nudged" if smooth else "one layer's weights negated", 0, "output", make)
