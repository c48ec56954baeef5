"""Two networks of the user's own: the same machinery for any reformulation."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.equivalence import draws
from mlcv_bench.equivalence.comparison import KINK_REASON, Evidence, Showing, clear_of_kinks, judge, observe
from mlcv_bench.equivalence.controls import control, nudge, put_back
from mlcv_bench.equivalence.exact import Ledger, check_whole
from mlcv_bench.equivalence.subject import Case, Finding, Settings
from mlcv_bench.equivalence.tolerance import longest_reduction, tolerance_of, type_of
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, foreign_code
from mlcv_bench.records import shape_text
from mlcv_bench.trials import NotApplicableError

State = Mapping[str, Tensor]
Transplant = Callable[[dict[str, Tensor]], State]
"""Turns a state dict of the first network into one of the second."""

BATCH = 2
CALIBRATION_BATCH = 8
NO_REARRANGEMENT = (
    "the transplant does more than rearrange weights, so gradients and statistics do not map through it; "
    "outputs and input gradients are compared"
)
NO_WEIGHTS = "the first network has no weights, so there is none to nudge"


def cases(
    first: nn.Module,
    second: nn.Module,
    settings: Settings,
    *,
    shape: Sequence[int],
    transplant: Transplant | None = None,
    name: str = "A = B",
    randomise: bool = True,
) -> Iterator[Case]:
    """Yield the one case of two networks.

    Args:
        first: the reference; left as it is.
        second: the other; left as it is.
        settings: the user's choice of device, types and seed.
        shape: of one input, without the batch axis.
        transplant: turns a state dict of the first into one of the second; by default it is the same one.
        name: the case's name.
        randomise: give torch's own layers random weights and statistics first, so that no mistake hides behind a 0.

    Raises:
        UsageError: a network cannot be copied, the first does not take the input, or the second not the state.

    """
    carry = transplant if transplant is not None else dict
    with _in_one_sentence("the two networks cannot be copied", "give functions that build them instead"):
        first, second = (copy.deepcopy(module).to(device="cpu", dtype=torch.float64) for module in (first, second))
        if randomise:
            draws.fill_normal(first, draws.generator(settings.seed, name, "weights"))
    with _in_one_sentence(f"the first network cannot take an input of {shape_text(shape)}", "try another --input"):
        image = draws.normal((CALIBRATION_BATCH, *shape), draws.generator(settings.seed, name))
        if randomise and any(isinstance(layer, draws.NORMS) for layer in first.modules()):
            # An untrained deep network overflows float16 unless its statistics are those of some batch.
            draws.calibrate(first, image)
        else:
            observe(first, image[:BATCH], train="train" in settings.modes)
    load(second, carried(first.state_dict(), carry), given=transplant is not None)
    yield Case(f"{name} {shape_text(shape)}", partial(examine, first, second, carry, settings, (BATCH, *shape)))


@contextlib.contextmanager
def _in_one_sentence(what: str, advice: str) -> Iterator[None]:
    """Say in one sentence what a network of the user's raised, and what to do next."""
    try:
        with foreign_code():
            yield
    except Exception as error:
        raise UsageError(f"{what}: {type(error).__name__}: {first_line(error)}; {advice}") from error


def carried(state: State, carry: Transplant) -> dict[str, Tensor]:
    """Apply the user's transplant to a copy of a state.

    Raises:
        UsageError: it raised, or gave no state dict.

    """
    try:
        with foreign_code():
            out = carry({key: tensor.detach().clone() for key, tensor in state.items()})
    except Exception as error:
        msg = f"the transplant raised {type(error).__name__}: {first_line(error)}"
        raise UsageError(msg) from error
    if not isinstance(out, Mapping) or not all(isinstance(tensor, Tensor) for tensor in out.values()):
        msg = "the transplant must return a state dict: a mapping of names to tensors"
        raise UsageError(msg)
    return dict(out)


def load(module: nn.Module, state: State, *, given: bool) -> None:
    """Load a state into the second network, or say in one sentence what does not fit.

    Raises:
        UsageError: a key is missing, unknown, or of another shape.

    """
    wanted = module.state_dict()
    advice = "" if given else "; give --transplant module:function, which turns one state dict into the other"
    for key in [*wanted, *state]:
        if key not in state or key not in wanted:
            where = "second" if key not in state else "first"
            raise UsageError(f"only the {where} network has {key}{advice}")
        if wanted[key].shape != state[key].shape:
            shapes = f"{tuple(state[key].shape)} and {tuple(wanted[key].shape)}"
            raise UsageError(f"{key} has different shapes, {shapes}{advice}")
    module.load_state_dict(dict(state))


def rearranges(module: nn.Module, carry: Transplant) -> bool:
    """Tell whether a transplant only moves values: then gradients move the same way.

    Every parameter's every value gets a number of its own; the same numbers must come out, each once.
    """
    state = module.state_dict()
    names = {name for name, _ in module.named_parameters()}
    start = 1
    for name, tensor in state.items():
        if name in names:
            state[name] = torch.arange(start, start + tensor.numel(), dtype=torch.float64).view(tensor.shape)
            start += tensor.numel()
        else:
            state[name] = torch.zeros_like(tensor)
    try:
        out = carried(state, carry)
    except UsageError:
        return False
    none = torch.zeros(0, dtype=torch.float64)  # a network without any state has nothing to concatenate
    values = torch.cat([none, *(tensor.flatten().to(torch.float64) for tensor in out.values())])
    values = values[values != 0].sort().values
    return torch.equal(values, torch.arange(1, start, dtype=torch.float64))


def examine(
    first: nn.Module, second: nn.Module, carry: Transplant, settings: Settings, image: Sequence[int]
) -> Iterator[Finding]:
    """Compare the two networks exactly where that is possible, then to rounding in each type and mode."""
    maps = rearranges(first, carry)
    if not maps:
        yield Finding("A = B", "weight gradients", "rounding", status="skipped", reason=NO_REARRANGEMENT)
    try:
        yield from examine_exactly(first, second, carry, settings, image, maps=maps)
    except NotApplicableError as error:
        yield Finding("A = B", "output", "exact", dtype="float64", status="skipped", reason=str(error))
    for network in (first, second):
        network.to(settings.device)
    for dtype in settings.dtypes:
        for network in (first, second):
            network.to(type_of(dtype))
        for mode in settings.modes:
            train = mode == "train"
            yield from examine_rounding(first, second, carry, settings, image, dtype, train=train, maps=maps)


def examine_exactly(
    first: nn.Module, second: nn.Module, carry: Transplant, settings: Settings, image: Sequence[int], *, maps: bool
) -> Iterator[Finding]:
    """Compare in whole numbers; refuses with the reason where something would be rounded."""
    if any(isinstance(layer, draws.NORMS) for network in (first, second) for layer in network.modules()):
        raise NotApplicableError("batch norm divides, so whole numbers do not stay whole; compared to rounding")
    one, other = copy.deepcopy(first), copy.deepcopy(second)
    draws.fill_whole(one, draws.generator(settings.seed, "whole"))
    other.load_state_dict(carried(one.state_dict(), carry))
    for network in (one, other):
        network.to(settings.device)
    taken = draws.whole(image, draws.INPUT_RANGE, draws.generator(settings.seed, "image")).to(settings.device)
    check_whole([taken, *one.parameters(), *other.parameters()])

    def cotangent(shape: Sequence[int]) -> Tensor:
        return draws.whole(shape, draws.COTANGENT_RANGE, draws.generator(settings.seed, "cotangent"))

    ledger = Ledger()
    look = partial(observe, image=taken, cotangent=cotangent, train=False)
    shown = [look(network, watch=ledger) for network in (one, other)]
    common: dict[str, Any] = {"tolerance": 0.0, "dtype": "float64", "largest_sum": ledger.certify()}
    states = one.state_dict(), other.state_dict()
    yield from _findings(shown[0], shown[1], carry, states, maps=maps, mode=None, **common)
    yield _noticed(one, look, shown[0], dtype="float64", mode=None, tolerance=0.0)


def examine_rounding(
    first: nn.Module,
    second: nn.Module,
    carry: Transplant,
    settings: Settings,
    image: Sequence[int],
    dtype: str,
    *,
    train: bool,
    maps: bool,
) -> Iterator[Finding]:
    """Compare with random weights, to the tolerance of the type; then nudge a weight."""
    mode = "train" if train else "eval"

    def draw(attempt: int) -> Tensor:
        source = draws.generator(settings.seed, "image", attempt)
        return draws.normal(image, source).to(settings.device, type_of(dtype))

    def cotangent(shape: Sequence[int]) -> Tensor:
        return draws.normal(shape, draws.generator(settings.seed, "cotangent"))

    taken, clear = clear_of_kinks(first, draw, train=train)
    look = partial(observe, image=taken, cotangent=cotangent if clear else None, train=train)
    shown = [look(network) for network in (first, second)]
    common: dict[str, Any] = {"tolerance": tolerance_of(dtype, longest_reduction(first)), "dtype": dtype, "mode": mode}
    states = first.state_dict(), second.state_dict()
    yield from _findings(shown[0], shown[1], carry, states, maps=maps, **common)
    if not clear:
        yield Finding("A = B", "gradients", "rounding", dtype=dtype, mode=mode, status="skipped", reason=KINK_REASON)
    yield _noticed(first, look, shown[0], **common)


def _findings(
    right: Evidence,
    other: Evidence,
    carry: Transplant,
    states: tuple[State, State],
    *,
    maps: bool,
    mode: str | None,
    **common: Any,  # noqa: ANN401 - tolerance, dtype, bound
) -> Iterator[Finding]:
    def verdict(quantity: str, reference: Showing, side: Showing) -> Finding:
        return judge("A = B", quantity, reference, side, mode=mode, **common)

    state, other_state = states
    yield verdict("output", right.output, other.output)
    if right.input_gradient is not None and other.input_gradient is not None:
        yield verdict("input gradient", right.input_gradient, other.input_gradient)
        if maps and right.weight_gradients:
            moved = carried({**state, **right.weight_gradients}, carry)
            yield verdict("weight gradients", _like(moved, other.weight_gradients), other.weight_gradients)
    # A buffer that no state dict holds is an affair of one network alone: no transplant carries it.
    statistics = _like(other.statistics, other_state)
    if maps and mode == "train" and statistics:
        moved = carried({**state, **_like(right.statistics, state)}, carry)
        yield verdict("batch-norm statistics", _like(moved, statistics), statistics)


def _like(state: State, wanted: State) -> dict[str, Tensor]:
    """Return what a state holds under the names of another."""
    return {key: state[key] for key in wanted if key in state}


def _noticed(
    network: nn.Module,
    look: Callable[[nn.Module], Evidence],
    right: Evidence,
    *,
    dtype: str,
    mode: str | None,
    tolerance: float,
) -> Finding:
    """Nudge the weight that the output depends on most, as far as gradients tell, and judge the output."""
    gradients = right.weight_gradients or {name: weight.detach() for name, weight in network.named_parameters()}
    gradients = {name: gradient for name, gradient in gradients.items() if gradient.numel()}
    if not gradients:
        return Finding(
            "one weight nudged", "output", "control", dtype=dtype, mode=mode, status="skipped", reason=NO_WEIGHTS
        )
    name = max(gradients, key=lambda key: float(gradients[key].abs().max()))
    gradient = gradients[name]
    position = [int(index) for index in torch.unravel_index(gradient.abs().argmax(), gradient.shape)]
    with put_back(network.get_parameter(name)) as weight:
        nudge(weight, dtype, exact=tolerance == 0.0, position=position)
        wrong = look(network)
    shown: tuple[Showing, Showing] = (right.output, wrong.output)
    return control("one weight nudged", "output", *shown, tolerance=tolerance, dtype=dtype, mode=mode)
