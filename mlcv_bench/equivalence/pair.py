"""Two networks of the user's own: the same check for any reformulation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.inputs import cannot_take
from mlcv_bench.architectures.request import Request
from mlcv_bench.equivalence.comparison import (
    FIXED,
    difference,
    largest_in,
    longest_reduction,
    tolerance_of,
    type_of,
)
from mlcv_bench.equivalence.evidence import KINK_REASON, Cotangent, Evidence, State, clear_of_kinks, observe
from mlcv_bench.equivalence.exact import SumLedger, check_whole_inputs
from mlcv_bench.equivalence.harness import Conditions, Formulation, compare, loudest_weight_nudged, outputs_alone
from mlcv_bench.equivalence.packing import constants
from mlcv_bench.equivalence.randomness import (
    COTANGENT_RANGE,
    INPUT_RANGE,
    NORMS,
    calibrate,
    cast,
    fill_normal,
    fill_whole,
    generator,
    normal,
    scale,
    whole,
)
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.subject import Case, Finding
from mlcv_bench.equivalence.transplants import Transplant, carried, load, rearranges, same_names, states_kept
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, user_code
from mlcv_bench.trials import NotApplicableError

BATCH = 2
OTHER_BATCHES = (1, 9)
SCALES = (1e-3, 10.0, 1e3, 1e6)
"""By how much the inputs and biases of further draws are larger: what cuts at a magnitude shows at one of them."""
SPANS = (1000, INPUT_RANGE)
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


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """Two networks to compare, which may be changed, and how.

    `carry` turns a state dict of the first into one of the second. `keep` says that the first keeps its weights, `own`
    that the second has its own too. `names` are the two networks'. `given` is what they take, `shape` one input of them
    without the batch axis.
    """

    first: nn.Module
    second: nn.Module
    names: tuple[str, str]
    given: Request
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
        source = generator(self.request.seed, "image", attempt)
        return normal((batch, *self.shape), source).to(self.request.device, type_of(dtype))

    def conditions(
        self, image: Tensor, dtype: str, mode: str, cotangent: Cotangent | None = None, *, clear: bool = True
    ) -> Conditions:
        """Return the conditions of a check to rounding."""
        return Conditions(image, cotangent, dtype, mode, tolerance_of(dtype, longest_reduction(self.first)), clear)

    def follow(self) -> None:
        """Give the second network the first one's state, unless it has weights of its own."""
        if not self.own:
            self.second.load_state_dict(carried(self.first.state_dict(), self.carry))

    def calibrate(self, image: Tensor) -> None:
        """Give drawn batch norms the statistics of a batch: an untrained deep network overflows float16 without."""
        if not self.keep:
            calibrate(self.first, image)

    def into_second(self, shown: Evidence) -> Evidence:
        """Carry what the first network showed over to the second's names, as its weights are."""
        state = self.first.state_dict()
        gradients = carried({**state, **shown.weight_gradients}, self.carry) if shown.weight_gradients else {}
        statistics = carried({**state, **_like(shown.statistics, state)}, self.carry)
        trained = [name for name, weight in self.second.named_parameters() if weight.requires_grad]
        buffers = [name for name, _ in self.second.named_buffers()]
        return replace(shown, weight_gradients=_like(gradients, trained), statistics=_like(statistics, buffers))

    def in_state(self, shown: Evidence) -> Evidence:
        """Leave out the second network's buffers that no state dict holds: no transplant carries them."""
        return replace(shown, statistics=_like(shown.statistics, self.second.state_dict()))

    def formulations(self, *, maps: bool) -> list[Formulation]:
        """Return both; gradients and statistics are compared in the second one's layout, if they map to it."""
        first, second = self.names
        return [
            Formulation(first, self.first, self.into_second if maps else outputs_alone),
            Formulation(second, self.second, self.in_state if maps else outputs_alone),
        ]


def _like(state: State, wanted: Iterable[str]) -> dict[str, Tensor]:
    """Return what a state holds under these names."""
    return {key: state[key] for key in wanted if key in state}


def cases(pair: ComparedPair, *, given: bool) -> Iterator[Case]:
    """Yield the one case of two networks.

    Unless weights are to be kept, the first network gets random ones, and random statistics, so that no error hides
    behind a 0.

    Args:
        pair: the networks; they are changed.
        given: whether the user gave the transplant, for the advice where it does not fit.

    Raises:
        UsageError: the first does not take the input, or the second not the state.

    """
    first, request = pair.first, pair.request
    for network in pair.networks:
        cast(network, "cpu", torch.float64)
    if not pair.keep:
        fill_normal(first, generator(request.seed, "weights"))
    try:
        image = normal((CALIBRATION_BATCH, *pair.shape), generator(request.seed, "calibration"))
        pair.calibrate(image)
        observe(first, image[:BATCH], train="train" in request.modes)
    except UsageError:
        raise
    except Exception as error:
        raise cannot_take(replace(pair.given, name="the first network"), error) from error
    if not pair.own:
        load(pair.second, carried(first.state_dict(), pair.carry), given=given)
    yield Case(pair.given.input_text, partial(examine, pair))


@contextlib.contextmanager
def in_one_sentence(what: str, advice: str) -> Iterator[None]:
    """Turn what a network of the user's raises into one sentence, which ends with what to do next."""
    try:
        with user_code():
            yield
    except Exception as error:
        raise UsageError(f"{what}: {type(error).__name__}: {first_line(error)}; {advice}") from error


def examine(pair: ComparedPair) -> Iterator[Finding]:
    """Compare the two networks exactly where that is possible, then to rounding in each type and mode.

    Both are compared in all their weights, also in those that are not trained; which ones are is compared too.
    """
    request = pair.request
    trained = [
        {name: weight.requires_grad for name, weight in network.named_parameters(remove_duplicate=False)}
        for network in pair.networks
    ]
    for network in pair.networks:
        cast(network, request.device, torch.float64)
        for weight in network.parameters():
            weight.requires_grad_(weight.is_floating_point() or weight.is_complex())
    maps = same_names(*pair.networks) if pair.own else rearranges(pair.first, pair.carry)
    if maps:
        yield from examine_trained(pair, *trained)
    else:
        reason = OTHER_NAMES if pair.own else NO_REARRANGEMENT
        yield Finding(pair.title, "weight gradients", "rounding", status="skipped", reason=reason)
    formulations = pair.formulations(maps=maps)
    for name in constants(pair.first, pair.given):
        reason = f"{name} is 0 throughout, as no table of embeddings says what it holds; from Python, give an example"
        yield Finding(name, "input", "report", reason=reason)
    yield from examine_chance(pair)
    yield from examine_exactly(pair, formulations)
    for dtype in request.dtypes:
        for network in pair.networks:
            cast(network, request.device, type_of(dtype))
        for mode in request.modes:
            yield from examine_rounding(pair, formulations, dtype, mode)
        if dtype == request.dtypes[0]:
            yield from examine_batches(pair, dtype)
            yield from examine_scales(pair, dtype)


def examine_trained(pair: ComparedPair, first: Mapping[str, bool], second: Mapping[str, bool]) -> Iterator[Finding]:
    """Compare which weights are trained, where some are not."""
    if all(first.values()) and all(second.values()):
        return
    state = pair.first.state_dict()
    masks = {key: torch.full_like(value.real, float(first.get(key, False))) for key, value in state.items()}
    moved = carried(masks, pair.carry)
    names = [name for name, value in second.items() if not bool((moved[name] == float(value)).all())]
    reason = f"trained in one network alone: {', '.join(names)}" if names else ""
    yield Finding(pair.title, "trained weights", "exact", mode="train", passed=not names, reason=reason)


def examine_chance(pair: ComparedPair) -> Iterator[Finding]:
    """Report a network that gives another output each time in evaluation mode: then what is compared is chance too."""
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


def examine_exactly(pair: ComparedPair, formulations: Sequence[Formulation]) -> Iterator[Finding]:
    """Compare in whole numbers; where something would be rounded, the reason is given.

    Where one network alone keeps whole numbers whole, the other's outputs are compared with them to rounding.
    """
    skipped = partial(Finding, pair.title, "output", "exact", dtype="float64", status="skipped")
    if pair.keep:
        yield skipped(reason=KEPT_WEIGHTS)
    elif any(isinstance(layer, NORMS) for network in pair.networks for layer in network.modules()):
        yield skipped(reason="batch norm divides, so whole numbers do not stay whole; compared to rounding")
    else:
        with states_kept(*pair.networks):
            fill_whole(pair.first, generator(pair.request.seed, "whole"))
            pair.follow()
            yield from examine_whole(pair, formulations)


def examine_whole(pair: ComparedPair, formulations: Sequence[Formulation]) -> Iterator[Finding]:
    """Compare two networks whose weights are whole, in their outputs, and in gradients where those are exact too."""
    skipped = partial(Finding, pair.title, proof="exact", dtype="float64", status="skipped")
    found = _shown_exactly(pair, gradients=False)
    if found.reasons:
        yield skipped(quantity="output", reason=" and ".join(dict.fromkeys(found.reasons)))
        if len(found.reasons) == 1:
            at = pair.conditions(found.at.image, "float64", "eval")
            yield from compare_outputs(pair, "output of whole numbers", at)
        return
    with_gradients = _shown_exactly(pair, gradients=True)
    if with_gradients.reasons:
        yield skipped(quantity="gradients", reason=" and ".join(dict.fromkeys(with_gradients.reasons)))
    else:
        found = with_gradients
    for finding in _judged(formulations, found.evidence, found.at):
        at_kink = (
            found.at_kink and finding.proof == "exact" and finding.passed is False and finding.quantity != "output"
        )
        yield skipped(quantity=finding.quantity, reason=KINK_REASON) if at_kink else finding


@dataclass(frozen=True)
class ExactRun:
    """What both networks showed in whole numbers, whether at a kink; or the reasons why they cannot."""

    at: Conditions
    evidence: list[Evidence]
    at_kink: bool
    reasons: list[str]


def _shown_exactly(pair: ComparedPair, *, gradients: bool) -> ExactRun:
    """Run both networks under a ledger: with large inputs if sums stay exact, else with small ones."""

    def draw(span: int, attempt: int) -> Tensor:
        source = generator(pair.request.seed, "image", attempt)
        return whole((BATCH, *pair.shape), span, source).to(pair.request.device)

    def cotangent(shape: Sequence[int]) -> Tensor:
        return whole(shape, COTANGENT_RANGE, generator(pair.request.seed, "cotangent"))

    for span in SPANS:
        image, clear = draw(span, 0), True
        if gradients:
            image, clear = clear_of_kinks(pair.first, partial(draw, span), train=False, exact=True)
        at = Conditions(image, cotangent if gradients else None, "float64", None, tolerance=0.0)
        ledger, evidence, reasons = SumLedger(), [], []
        for name, network in zip(pair.names, pair.networks, strict=True):
            try:
                check_whole_inputs(image, network.parameters())
                evidence.append(at.look(network, watch=ledger))
                ledger.certify()
            except NotApplicableError as error:
                reasons.append(f"{name}: {error}")
        found = ExactRun(replace(at, largest_sum=ledger.largest_sum), evidence, not clear, reasons)
        if not reasons:
            break
    return found


def examine_rounding(
    pair: ComparedPair, formulations: Sequence[Formulation], dtype: str, mode: str
) -> Iterator[Finding]:
    """Compare with random weights, to the tolerance of the type; then nudge a weight."""

    def cotangent(shape: Sequence[int]) -> Tensor:
        return normal(shape, generator(pair.request.seed, "cotangent"))

    image, clear = clear_of_kinks(pair.first, partial(pair.draw, BATCH, dtype), train=mode == "train")
    at = pair.conditions(image, dtype, mode, cotangent, clear=clear)
    yield from _judged(formulations, [at.look(network) for network in pair.networks], at)


def _judged(formulations: Sequence[Formulation], evidence: Sequence[Evidence], at: Conditions) -> Iterator[Finding]:
    first = evidence[0]
    for finding in compare(formulations, evidence, at, [loudest_weight_nudged(formulations[0].module, first)]):
        compared = finding.quantity == "output" and finding.proof != "control"
        yield replace(finding, largest_output=largest_in(first.output)) if compared else finding


def examine_batches(pair: ComparedPair, dtype: str) -> Iterator[Finding]:
    """Compare the outputs of other batches: what mixes images, or treats a batch by its size, shows there."""
    for mode in pair.request.modes:
        for batch in OTHER_BATCHES:
            at = pair.conditions(pair.draw(batch, dtype), dtype, mode)
            yield from compare_outputs(pair, f"output, batch of {batch}", at)


def examine_scales(pair: ComparedPair, dtype: str) -> Iterator[Finding]:
    """Compare outputs at other magnitudes, as far as rounding is not amplified there.

    Inputs, biases and the scales of norms are multiplied by the same number, so that all activations of a network
    without constants of its own are. Kept weights stay, and the inputs alone are multiplied.
    """
    image = pair.draw(BATCH, dtype)
    signs = normal(image.shape, generator(pair.request.seed, "rounding")).sign().to(image)
    for factor in SCALES:
        with states_kept(*pair.networks):
            if not pair.keep:
                scale(pair.first, factor)
                try:
                    pair.calibrate(factor * pair.draw(CALIBRATION_BATCH, dtype))
                except Exception as error:  # noqa: BLE001 - as in `compare_outputs`
                    reason = f"scale {factor:g}: the first network raises {type(error).__name__}: {first_line(error)}"
                    yield Finding(pair.title, "output", "rounding", dtype=dtype, status="skipped", reason=reason)
                    continue
                pair.follow()
            scaled = factor * image
            rounded = scaled * (1 + torch.finfo(image.dtype).eps * signs)
            for mode in pair.request.modes:
                at = pair.conditions(scaled, dtype, mode)
                yield from compare_outputs(pair, f"output at scale {factor:g}", at, rounded)


def compare_outputs(
    pair: ComparedPair, quantity: str, at: Conditions, rounded: Tensor | None = None
) -> Iterator[Finding]:
    """Compare the outputs alone, if the first network takes the input.

    `rounded` is the same input up to rounding; where that alone changes the output much, nothing is judged.
    """
    unjudged = partial(Finding, pair.title, quantity, "rounding", dtype=at.dtype, mode=at.mode)
    try:
        first = at.look(pair.first).output
    except Exception as error:  # noqa: BLE001 - an input outside the first network's domain judges nothing
        reason = f"{quantity}: the first network raises {type(error).__name__}: {first_line(error)}"
        yield unjudged(status="skipped", reason=reason)
        return
    if rounded is not None:
        amplified = difference(first, replace(at, image=rounded).look(pair.first).output).relative
        if not amplified * AMPLIFIED <= at.tolerance:
            reason = f"{quantity}: rounding the input alone changes the first network's by {amplified:.1g}"
            yield unjudged(status="skipped", reason=reason)
            return
    try:
        second = at.look(pair.second).output
    except Exception as error:  # noqa: BLE001 - the first network takes this input, so the two differ
        reason = f"the second network raises {type(error).__name__}: {first_line(error)}"
        found = unjudged(passed=False, reason=reason)
    else:
        found = at.judge(pair.title, quantity, first, second)
    yield replace(found, largest_output=largest_in(first))
