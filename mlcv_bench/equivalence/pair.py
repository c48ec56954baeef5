"""Two networks of the user's own: the same machinery for any reformulation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.equivalence import draws
from mlcv_bench.equivalence.comparison import (
    KINK_REASON,
    Evidence,
    Showing,
    clear_of_kinks,
    continuous,
    difference,
    judge,
    largest_in,
    observe,
)
from mlcv_bench.equivalence.controls import control, nudge, put_back
from mlcv_bench.equivalence.exact import Ledger, check_draws
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.states import State, Transplant, carried, load, rearranges, same_names, states_kept
from mlcv_bench.equivalence.subject import Case, Finding
from mlcv_bench.equivalence.tolerance import FIXED, longest_reduction, tolerance_of, type_of
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, foreign_code
from mlcv_bench.records import shape_text
from mlcv_bench.trials import NotApplicableError

BATCH = 2
OTHER_BATCHES = (1, 9)
SCALES = (1e-3, 10.0, 1e3, 1e6)
"""By how much the inputs and biases of further draws are larger: what cuts at a magnitude shows at one of them."""
SPANS = (1000, draws.INPUT_RANGE)
"""Largest whole inputs, tried in turn: large ones show more, small ones leave deep networks room for exact sums."""
AMPLIFIED = 10
"""A scale is judged only where rounding the input changes the first output by at most a tenth of the tolerance."""
CALIBRATION_BATCH = 8
NO_REARRANGEMENT = (
    "the transplant does more than rearrange weights, so gradients and statistics do not map through it; "
    "outputs and input gradients are compared"
)
OTHER_NAMES = (
    "the two networks name their weights differently, so gradients and statistics do not map; "
    "outputs and input gradients are compared"
)
KEPT_WEIGHTS = "the weights are kept, and are not whole; compared to rounding"
NO_WEIGHTS = "the first network has no weights, so there is none to nudge"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two networks to compare, which may be changed, and how.

    `carry` turns a state dict of the first into one of the second. `keep` says that the first keeps its weights, `own`
    that the second has its own too. `names` are the two networks', `shape` is that of one input without the batch axis.
    """

    first: nn.Module
    second: nn.Module
    names: tuple[str, str]
    shape: tuple[int, ...]
    request: VerifyRequest
    carry: Transplant = dict
    keep: bool = False
    own: bool = False

    @property
    def title(self) -> str:
        """What is compared, as the results show it."""
        return " = ".join(self.names)

    @property
    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Both, in their order."""
        return self.first, self.second

    def draw(self, batch: int, dtype: str, attempt: int = 0) -> Tensor:
        """Draw a batch of inputs, on the device."""
        source = draws.generator(self.request.seed, "image", attempt)
        return draws.normal((batch, *self.shape), source).to(self.request.device, type_of(dtype))

    def tolerance(self, dtype: str) -> float:
        """Return the relative difference that rounding may cause in a type."""
        return tolerance_of(dtype, longest_reduction(self.first))

    def follow(self) -> None:
        """Give the second network the first one's state, unless it has weights of its own."""
        if not self.own:
            self.second.load_state_dict(carried(self.first.state_dict(), self.carry))


def cases(pair: Pair, *, given: bool) -> Iterator[Case]:
    """Yield the one case of two networks.

    Unless weights are to be kept, the first network gets random ones, and random statistics, so that no mistake hides
    behind a 0.

    Args:
        pair: the networks; they are changed.
        given: whether the user gave the transplant, for what is said where it does not fit.

    Raises:
        UsageError: the first does not take the input, or the second not the state.

    """
    first, request = pair.first, pair.request
    for network in pair.networks:
        draws.cast(network, "cpu", torch.float64)
    if not pair.keep:
        draws.fill_normal(first, draws.generator(request.seed, "weights"))
    with in_one_sentence(f"the first network cannot take an input of {shape_text(pair.shape)}", "try another --input"):
        image = draws.normal((CALIBRATION_BATCH, *pair.shape), draws.generator(request.seed, "calibration"))
        calibrate(pair, image)
        observe(first, image[:BATCH], train="train" in request.modes)
    if not pair.own:
        load(pair.second, carried(first.state_dict(), pair.carry), given=given)
    yield Case(shape_text(pair.shape), partial(examine, pair))


def calibrate(pair: Pair, image: Tensor) -> None:
    """Give drawn batch norms the statistics of a batch: an untrained deep network overflows float16 without."""
    if not pair.keep and any(isinstance(layer, draws.NORMS) for layer in pair.first.modules()):
        with foreign_code():
            draws.calibrate(pair.first, image)


@contextlib.contextmanager
def in_one_sentence(what: str, advice: str) -> Iterator[None]:
    """Say in one sentence what a network of the user's raised, and what to do next."""
    try:
        with foreign_code():
            yield
    except Exception as error:
        raise UsageError(f"{what}: {type(error).__name__}: {first_line(error)}; {advice}") from error


def examine(pair: Pair) -> Iterator[Finding]:
    """Compare the two networks exactly where that is possible, then to rounding in each type and mode.

    Both are compared in all their weights, also in those that are not trained; which ones are is compared too.
    """
    request = pair.request
    trained = [
        {name: weight.requires_grad for name, weight in network.named_parameters(remove_duplicate=False)}
        for network in pair.networks
    ]
    for network in pair.networks:
        draws.cast(network, request.device, torch.float64)
        for weight in network.parameters():
            weight.requires_grad_(weight.is_floating_point() or weight.is_complex())
    maps = same_names(*pair.networks) if pair.own else rearranges(pair.first, pair.carry)
    if maps:
        yield from examine_trained(pair, *trained)
    else:
        reason = OTHER_NAMES if pair.own else NO_REARRANGEMENT
        yield Finding(pair.title, "weight gradients", "rounding", status="skipped", reason=reason)
    yield from examine_chance(pair)
    yield from examine_exactly(pair, maps=maps)
    for dtype in request.dtypes:
        for network in pair.networks:
            draws.cast(network, request.device, type_of(dtype))
        for mode in request.modes:
            yield from examine_rounding(pair, dtype, train=mode == "train", maps=maps)
        if dtype == request.dtypes[0]:
            yield from examine_batches(pair, dtype)
            yield from examine_scales(pair, dtype)


def examine_trained(pair: Pair, first: Mapping[str, bool], second: Mapping[str, bool]) -> Iterator[Finding]:
    """Compare which weights are trained, where some are not."""
    if all(first.values()) and all(second.values()):
        return
    state = pair.first.state_dict()
    masks = {key: torch.full_like(value.real, float(first.get(key, False))) for key, value in state.items()}
    moved = carried(masks, pair.carry)
    names = [name for name, value in second.items() if not bool((moved[name] == float(value)).all())]
    reason = f"trained in one network alone: {', '.join(names)}" if names else ""
    yield Finding(pair.title, "trained weights", "exact", mode="train", passed=not names, reason=reason)


def examine_chance(pair: Pair) -> Iterator[Finding]:
    """Say where a network gives another output each time in evaluation mode: then what is compared is chance too."""
    image = pair.draw(BATCH, "float64")
    for name, network in zip(pair.names, pair.networks, strict=True):
        shown, again, other = (observe(network, image, train=False, seed=seed).output for seed in (0, 0, 1))
        if difference(shown, again).relative > FIXED["float64"]:
            reason = f"{name} gives another output each time: it keeps a state, or draws numbers outside torch"
        elif difference(shown, other).relative > FIXED["float64"]:
            reason = f"{name} is random in evaluation; both networks were given the same random numbers"
        else:
            continue
        yield Finding(f"{name} twice", "output", "report", dtype="float64", mode="eval", reason=reason)


def examine_exactly(pair: Pair, *, maps: bool) -> Iterator[Finding]:
    """Compare in whole numbers; where something would be rounded, the reason is said.

    Where one network alone keeps whole numbers whole, the other's outputs are held against them to rounding.
    """
    skipped = partial(Finding, pair.title, "output", "exact", dtype="float64", status="skipped")
    if pair.keep:
        yield skipped(reason=KEPT_WEIGHTS)
    elif any(isinstance(layer, draws.NORMS) for network in pair.networks for layer in network.modules()):
        yield skipped(reason="batch norm divides, so whole numbers do not stay whole; compared to rounding")
    else:
        with states_kept(*pair.networks):
            draws.fill_whole(pair.first, draws.generator(pair.request.seed, "whole"))
            pair.follow()
            yield from examine_whole(pair, maps=maps)


def examine_whole(pair: Pair, *, maps: bool) -> Iterator[Finding]:
    """Compare two networks whose weights are whole, in their outputs, and in gradients where those are exact too."""
    skipped = partial(Finding, pair.title, proof="exact", dtype="float64", status="skipped")

    def cotangent(shape: Sequence[int]) -> Tensor:
        return draws.whole(shape, draws.COTANGENT_RANGE, draws.generator(pair.request.seed, "cotangent"))

    outputs = _shown_exactly(pair, None)
    if outputs.reasons:
        yield skipped(quantity="output", reason=" and ".join(dict.fromkeys(outputs.reasons)))
        if len(outputs.reasons) == 1:
            yield from _outputs(pair, "output of whole numbers", outputs.image, "float64", train=False)
        return
    found = _shown_exactly(pair, cotangent)
    if found.reasons:
        yield skipped(quantity="gradients", reason=" and ".join(dict.fromkeys(found.reasons)))
        found, cotangent_used = outputs, None
    else:
        cotangent_used = cotangent
    first, second = found.shown
    for finding in _findings(
        pair, first, second, maps=maps, mode=None, tolerance=0.0, dtype="float64", largest_sum=found.bound
    ):
        at_kink = not found.clear and finding.passed is False and finding.quantity != "output"
        yield skipped(quantity=finding.quantity, reason=KINK_REASON) if at_kink else finding
    look = partial(observe, image=found.image, cotangent=cotangent_used, train=False)
    yield _noticed(pair.first, look, first, dtype="float64", mode=None, tolerance=0.0)


@dataclass(frozen=True)
class Exact:
    """What both networks showed in whole numbers, below which bound, and whether clear of kinks; or why they cannot."""

    image: Tensor
    shown: list[Evidence]
    bound: float
    clear: bool
    reasons: list[str]


def _shown_exactly(pair: Pair, cotangent: Callable[[Sequence[int]], Tensor] | None) -> Exact:
    """Look at both networks under a ledger: with large inputs if sums stay exact, else with small ones."""

    def draw(span: int, attempt: int) -> Tensor:
        source = draws.generator(pair.request.seed, "image", attempt)
        return draws.whole((BATCH, *pair.shape), span, source).to(pair.request.device)

    for span in SPANS:
        if cotangent is None:
            image, clear = draw(span, 0), True
        else:
            image, clear = clear_of_kinks(pair.first, partial(draw, span), train=False, exact=True)
        ledger, shown, reasons = Ledger(), [], []
        for name, network in zip(pair.names, pair.networks, strict=True):
            try:
                check_draws(image, network.parameters())
                shown.append(observe(network, image, cotangent, train=False, watch=ledger))
                ledger.certify()
            except NotApplicableError as error:
                reasons.append(f"{name}: {error}")
        found = Exact(image, shown, ledger.largest_sum, clear, reasons)
        if not reasons:
            break
    return found


def examine_rounding(pair: Pair, dtype: str, *, train: bool, maps: bool) -> Iterator[Finding]:
    """Compare with random weights, to the tolerance of the type; then nudge a weight."""
    mode = "train" if train else "eval"

    def cotangent(shape: Sequence[int]) -> Tensor:
        return draws.normal(shape, draws.generator(pair.request.seed, "cotangent"))

    image, clear = clear_of_kinks(pair.first, partial(pair.draw, BATCH, dtype), train=train)
    look = partial(observe, image=image, cotangent=cotangent if clear else None, train=train)
    first, second = (look(network) for network in pair.networks)
    common: dict[str, Any] = {"tolerance": pair.tolerance(dtype), "dtype": dtype, "mode": mode}
    yield from _findings(pair, first, second, maps=maps, **common)
    if not clear:
        yield Finding(pair.title, "gradients", "rounding", dtype=dtype, mode=mode, status="skipped", reason=KINK_REASON)
    yield _noticed(pair.first, look, first, **common)


def examine_batches(pair: Pair, dtype: str) -> Iterator[Finding]:
    """Compare the outputs of other batches: what mixes images, or treats a batch by its size, shows there."""
    for mode in pair.request.modes:
        for batch in OTHER_BATCHES:
            yield from _outputs(
                pair, f"output, batch of {batch}", pair.draw(batch, dtype), dtype, train=mode == "train"
            )


def examine_scales(pair: Pair, dtype: str) -> Iterator[Finding]:
    """Compare outputs at other magnitudes, as far as rounding is not amplified there.

    Inputs, biases and the scales of norms are multiplied by the same number, so that all activations of a network
    without constants of its own are. Kept weights stay, and the inputs alone are multiplied.
    """
    image = pair.draw(BATCH, dtype)
    signs = draws.normal(image.shape, draws.generator(pair.request.seed, "rounding")).sign().to(image)
    for scale in SCALES:
        with states_kept(*pair.networks):
            if not pair.keep:
                draws.scale(pair.first, scale)
                try:
                    calibrate(pair, scale * pair.draw(CALIBRATION_BATCH, dtype))
                except Exception as error:  # noqa: BLE001 - as in `_outputs`
                    reason = f"scale {scale:g}: the first network raises {type(error).__name__}: {first_line(error)}"
                    yield Finding(pair.title, "output", "rounding", dtype=dtype, status="skipped", reason=reason)
                    continue
                pair.follow()
            scaled = scale * image
            rounded = scaled * (1 + torch.finfo(image.dtype).eps * signs)
            for mode in pair.request.modes:
                yield from _outputs(
                    pair, f"output at scale {scale:g}", scaled, dtype, train=mode == "train", rounded=rounded
                )


def _outputs(
    pair: Pair, quantity: str, image: Tensor, dtype: str, *, train: bool, rounded: Tensor | None = None
) -> Iterator[Finding]:
    """Compare the outputs alone at one input, if the first network takes it.

    Args:
        pair: the two networks.
        quantity: what is compared.
        image: the input.
        dtype: the type that both compute in.
        train: in training mode, or in evaluation mode.
        rounded: the same input up to rounding; where that alone changes the output much, nothing is judged.

    """
    mode, tolerance = "train" if train else "eval", pair.tolerance(dtype)
    skipped = partial(Finding, pair.title, quantity, "rounding", dtype=dtype, mode=mode, status="skipped")
    try:
        first = observe(pair.first, image, train=train).output
    except Exception as error:  # noqa: BLE001 - an input outside the first network's domain judges nothing
        yield skipped(reason=f"{quantity}: the first network raises {type(error).__name__}: {first_line(error)}")
        return
    if rounded is not None:
        amplified = difference(first, observe(pair.first, rounded, train=train).output).relative
        if not amplified * AMPLIFIED <= tolerance:
            yield skipped(reason=f"{quantity}: rounding the input alone changes the first network's by {amplified:.1g}")
            return
    try:
        second = observe(pair.second, image, train=train).output
    except Exception as error:  # noqa: BLE001 - the first network takes this input, so the two differ
        reason = f"the second network raises {type(error).__name__}: {first_line(error)}"
        found = Finding(pair.title, quantity, "rounding", dtype=dtype, mode=mode, passed=False, reason=reason)
    else:
        found = judge(pair.title, quantity, first, second, tolerance=tolerance, dtype=dtype, mode=mode)
    yield replace(found, largest_output=largest_in(first))


def _findings(
    pair: Pair,
    right: Evidence,
    other: Evidence,
    *,
    maps: bool,
    mode: str | None,
    **common: Any,  # noqa: ANN401 - tolerance, dtype, bound
) -> Iterator[Finding]:
    def verdict(quantity: str, reference: Showing, side: Showing) -> Finding:
        return judge(pair.title, quantity, reference, side, mode=mode, **common)

    state, other_state = (network.state_dict() for network in pair.networks)
    yield replace(verdict("output", right.output, other.output), largest_output=largest_in(right.output))
    if right.input_gradient is not None and other.input_gradient is not None:
        yield verdict("input gradient", right.input_gradient, other.input_gradient)
        if maps and right.weight_gradients:
            moved = carried({**state, **right.weight_gradients}, pair.carry)
            yield verdict("weight gradients", _like(moved, other.weight_gradients), other.weight_gradients)
    # A buffer that no state dict holds is an affair of one network alone: no transplant carries it.
    statistics = _like(other.statistics, other_state)
    if maps and mode == "train" and statistics:
        moved = carried({**state, **_like(right.statistics, state)}, pair.carry)
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
    """Nudge the weight that the output depends on most, as far as gradients tell, and judge the output.

    Outputs that are whole by nature, as classes are, follow no nudge: there the whole tensor is negated.
    """
    gradients = right.weight_gradients or {name: weight.detach() for name, weight in network.named_parameters()}
    gradients = {name: gradient for name, gradient in gradients.items() if gradient.numel()}
    smooth = any(isinstance(part, Tensor) and continuous(part) for part in right.output.values())
    mistake = "one weight nudged" if smooth else "one layer's weights negated"
    if not gradients:
        return Finding(mistake, "output", "control", dtype=dtype, mode=mode, status="skipped", reason=NO_WEIGHTS)
    name = max(gradients, key=lambda key: float(gradients[key].abs().max()))
    gradient = gradients[name]
    position = [int(index) for index in torch.unravel_index(gradient.abs().argmax(), gradient.shape)]
    with put_back(network.get_parameter(name)) as weight:
        if smooth:
            nudge(weight, dtype, exact=tolerance == 0.0, position=position)
        else:
            with torch.no_grad():
                weight.neg_()
        wrong = look(network)
    shown: tuple[Showing, Showing] = (right.output, wrong.output)
    return control(mistake, "output", *shown, tolerance=tolerance, dtype=dtype, mode=mode)
