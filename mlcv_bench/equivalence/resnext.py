"""Subject `resnext`: one function in three forms, on single blocks and on whole networks (notes 2.3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.build import build
from mlcv_bench.architectures.resnext import Form, ResNeXtBlock
from mlcv_bench.counting.published import paper_width
from mlcv_bench.equivalence import draws
from mlcv_bench.equivalence.comparison import KINK_REASON, Evidence, Showing, clear_of_kinks, compare, judge, observe
from mlcv_bench.equivalence.controls import control, nudge, put_back
from mlcv_bench.equivalence.exact import Ledger, check_draws, proved_exactly, without_norms
from mlcv_bench.equivalence.mistakes import MISTAKES, Mistake, Spoilt, loudest_weight
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.subject import Case, Finding
from mlcv_bench.equivalence.tolerance import longest_reduction, tolerance_of, type_of
from mlcv_bench.equivalence.transplants import convert, transplant
from mlcv_bench.trials import NotApplicableError

FORMS: tuple[Form, ...] = ("branches", "concat", "grouped")
REFERENCE: Form = "branches"
"""The notes' definition, against which the other two are held."""
LAYOUT: Form = "grouped"
"""The form whose few, long tensors gradients and statistics are compared in."""
BATCH = 2
NETWORK = "resnext50_32x4d"
NETWORK_INPUT = (3, 64, 64)
SPOILT_BLOCK = "layer3.0"
CALIBRATION_BATCH = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of block: how it stands in a stage. `size` is the side of the square map that enters it."""

    stride: int
    projection: bool
    size: int

    def input_channels(self, channels: int) -> int:
        """Return how many channels enter: half as many where a stage begins."""
        if not self.projection:
            return channels
        return channels // 2 if channels > 1 else channels + 1


SHAPES = (Shape(1, projection=False, size=7), Shape(1, projection=True, size=8), Shape(2, projection=True, size=14))


@dataclass(frozen=True, slots=True)
class Block:
    """One block to examine: the notes' G, d and channels, and how it stands in a stage."""

    groups: int
    width: int
    channels: int
    shape: Shape

    @property
    def name(self) -> str:
        """The figures of the block, as the results show them."""
        shortcut = "projection" if self.shape.projection else "identity"
        size = self.shape.size
        return f"G={self.groups} d={self.width} C={self.channels} stride={self.shape.stride} {shortcut} {size}x{size}"

    @property
    def image(self) -> tuple[int, ...]:
        """The shape of the input batch."""
        return (BATCH, self.shape.input_channels(self.channels), self.shape.size, self.shape.size)

    def build(self, form: Form) -> ResNeXtBlock:
        """Build the block in one form."""
        return ResNeXtBlock(
            self.shape.input_channels(self.channels),
            self.channels,
            self.shape.stride,
            groups=self.groups,
            width=self.width,
            form=form,
        )


def cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield every block shape for every G, d and C, then the whole network."""
    for channels in request.channels:
        for groups in request.groups:
            for width in request.widths or (paper_width(groups),):
                for shape in SHAPES:
                    block = Block(groups, width, channels, shape)
                    yield Case(block.name, partial(examine_block, block, request))
    yield Case(f"{NETWORK} 3x64x64", partial(examine_network, request))


def in_all_forms(source: nn.Module, own: Form, build_form: Callable[[Form], nn.Module]) -> dict[Form, nn.Module]:
    """Return the source and its two other forms, with the source's weights and statistics transplanted into them."""
    forms: dict[Form, nn.Module] = {}
    for form in FORMS:
        if form == own:
            forms[form] = source
            continue
        with torch.device("meta"):
            target = build_form(form)
        forms[form] = transplant(source, target).train(source.training)
    return forms


def examine_block(block: Block, request: VerifyRequest) -> Iterator[Finding]:
    """Compare the three forms of one block: round trips, then exactly, then to rounding in each type and mode."""
    reference = draws.materialised(lambda: block.build(REFERENCE), torch.float64)
    draws.fill_normal(reference, draws.generator(request.seed, block.name, "weights"))
    reference.to(request.device)
    forms = in_all_forms(reference, REFERENCE, block.build)
    yield from round_trips(forms)
    yield from proved_exactly(examine_exactly(block, request))
    for dtype in request.dtypes:
        # Whatever a cast loses, all forms lose alike: they hold the same numbers before and after.
        for module in forms.values():
            module.to(type_of(dtype))
        for mode in request.modes:
            yield from examine_rounding(block, forms, request, dtype, train=mode == "train")


def round_trips(forms: dict[Form, nn.Module]) -> Iterator[Finding]:
    """Carry the weights and statistics from each form into each other and back: the same bits must return."""
    for source in FORMS:
        state = forms[source].state_dict()
        for via in FORMS:
            if via == source:
                continue
            there = convert(state, forms[source], forms[via])
            back = convert(there, forms[via], forms[source])
            yield judge(f"{source} -> {via} -> {source}", "round trip", state, back, tolerance=0.0, dtype="float64")


def examine_exactly(block: Block, request: VerifyRequest) -> Iterator[Finding]:
    """Compare without batch norm, in whole numbers: nothing is rounded, so every bit must agree."""
    source = draws.generator(request.seed, block.name, "whole")
    reference = draws.materialised(lambda: without_norms(block.build(REFERENCE)), torch.float64)
    draws.fill_whole(reference, source)
    reference.to(request.device)
    forms = in_all_forms(reference, REFERENCE, lambda form: without_norms(block.build(form)))
    image = draws.whole(block.image, draws.INPUT_RANGE, source).to(request.device)

    def cotangent(shape: Sequence[int]) -> Tensor:
        seeded = draws.generator(request.seed, block.name, "whole cotangent")
        return draws.whole(shape, draws.COTANGENT_RANGE, seeded)

    check_draws(image, reference.parameters())
    ledger = Ledger()
    evidence = {form: observe(module, image, cotangent, train=False, watch=ledger) for form, module in forms.items()}
    bound = ledger.certify()
    right = in_layout(evidence[REFERENCE], forms)
    for form in FORMS[1:]:
        yield from compare(
            f"{REFERENCE} = {form}",
            right,
            evidence[form],
            tolerance=0.0,
            dtype="float64",
            mode=None,
            map_gradients=partial(moved, source=forms[form], target=forms[LAYOUT]),
            largest_sum=bound,
        )
    if block.shape == SHAPES[0]:
        look = partial(observe, image=image, cotangent=cotangent, train=False)
        for mistake in MISTAKES:
            if mistake.exact and block.groups >= mistake.least_groups:
                yield noticed(mistake, block, forms, right, look, dtype="float64", tolerance=0.0, mode=None)


def examine_rounding(
    block: Block, forms: dict[Form, nn.Module], request: VerifyRequest, dtype: str, *, train: bool
) -> Iterator[Finding]:
    """Compare with batch norm and normal weights, to the tolerance of the type; then make the mistakes."""
    mode = "train" if train else "eval"

    def draw(attempt: int) -> Tensor:
        seeded = draws.generator(request.seed, block.name, "image", attempt)
        return draws.normal(block.image, seeded).to(request.device, type_of(dtype))

    def cotangent(shape: Sequence[int]) -> Tensor:
        return draws.normal(shape, draws.generator(request.seed, block.name, "cotangent"))

    tolerance = tolerance_of(dtype, longest_reduction(forms["grouped"]))
    # All forms have the same ReLU inputs up to rounding, and the grouped form is the quickest to ask.
    image, clear = clear_of_kinks(forms[LAYOUT], draw, train=train)
    evidence = {form: observe(module, image, cotangent, train=train) for form, module in forms.items()}
    right = in_layout(evidence[REFERENCE], forms)
    for form in FORMS[1:]:
        yield from compare(
            f"{REFERENCE} = {form}",
            right,
            evidence[form],
            tolerance=tolerance,
            dtype=dtype,
            mode=mode,
            gradients=clear,
            map_gradients=partial(moved, source=forms[form], target=forms[LAYOUT]),
            map_statistics=partial(moved, source=forms[form], target=forms[LAYOUT]),
        )
        if not clear:
            yield Finding(
                *(f"{REFERENCE} = {form}", "gradients", "rounding"),
                dtype=dtype,
                mode=mode,
                status="skipped",
                reason=KINK_REASON,
            )
    if block.shape == SHAPES[0]:
        for mistake in MISTAKES:
            if mode not in mistake.modes or block.groups < mistake.least_groups:
                continue
            wants_gradients = mistake.quantity == "weight gradients"
            if wants_gradients and not clear:
                continue
            look = partial(observe, image=image, cotangent=cotangent if wants_gradients else None, train=train)
            yield noticed(mistake, block, forms, right, look, dtype=dtype, tolerance=tolerance, mode=mode)


def moved(state: Mapping[str, Tensor], source: nn.Module, target: nn.Module) -> dict[str, Tensor]:
    """Convert what a form showed; branches that disagree among themselves equal nothing, and nothing breaks."""
    try:
        return convert(state, source, target)
    except ValueError as error:
        return {str(error): torch.tensor(torch.nan)}


def in_layout(shown: Evidence, forms: dict[Form, nn.Module]) -> Evidence:
    """Return what the reference showed, its gradients and statistics in the layout they are compared in."""
    move = partial(moved, source=forms[REFERENCE], target=forms[LAYOUT])
    return replace(shown, weight_gradients=move(shown.weight_gradients), statistics=move(shown.statistics))


def noticed(
    mistake: Mistake,
    block: Block,
    forms: dict[Form, nn.Module],
    right: Evidence,
    look: Callable[[nn.Module], Evidence],
    *,
    dtype: str,
    tolerance: float,
    mode: str | None,
) -> Finding:
    """Make one mistake, look as at the right block, and judge the difference where it must show."""
    form = forms[mistake.form]
    try:
        with mistake.make(Spoilt(form, partial(look, form), block.groups, dtype, exact=tolerance == 0.0)):
            wrong = look(form)
    except NotApplicableError as error:
        return Finding(
            *(mistake.name, mistake.quantity, "control"), dtype=dtype, mode=mode, status="skipped", reason=str(error)
        )
    back = partial(moved, source=forms[mistake.form], target=forms[LAYOUT])
    sides: tuple[Showing, Showing]
    if mistake.quantity == "output":
        sides = right.output, wrong.output
    elif mistake.quantity == "weight gradients":
        sides = right.weight_gradients, back(wrong.weight_gradients)
    else:
        sides = right.statistics, back(wrong.statistics)
    return control(mistake.name, mistake.quantity, *sides, tolerance=tolerance, dtype=dtype, mode=mode)


def examine_network(request: VerifyRequest) -> Iterator[Finding]:
    """Compare the logits of a whole network in its three forms, in evaluation mode, after calibration.

    The last norm of each of the L blocks is scaled by 1 / sqrt(L) (Hayou et al. 2021), as in trained networks, whose
    blocks add little: with unit scales the untrained network itself amplifies rounding with depth.
    """
    grouped = draws.materialised(lambda: build(NETWORK), torch.float32)
    draws.fill_normal(grouped, draws.generator(request.seed, NETWORK, "weights"))
    blocks = [module for module in grouped.modules() if isinstance(module, ResNeXtBlock)]
    with torch.no_grad():
        for module in blocks:
            module.last_norm().get_parameter("weight").mul_(len(blocks) ** -0.5)
    grouped.to(request.device)
    source = draws.generator(request.seed, NETWORK, "images")
    images = draws.normal((CALIBRATION_BATCH, *NETWORK_INPUT), source, torch.float32).to(request.device)
    draws.calibrate(grouped, images)
    forms = in_all_forms(grouped, "grouped", lambda form: build(NETWORK, form=form))
    for dtype in request.dtypes:
        for network in forms.values():
            network.to(type_of(dtype))
        image = images[:BATCH].to(type_of(dtype))
        tolerance = tolerance_of(dtype, longest_reduction(grouped))
        common: dict[str, Any] = {"tolerance": tolerance, "dtype": dtype, "mode": "eval"}
        logits = {form: observe(network, image, train=False).output for form, network in forms.items()}
        for form in FORMS[1:]:
            yield judge(f"{REFERENCE} = {form}", "logits", logits[REFERENCE], logits[form], **common)
        look = partial(observe, forms["grouped"], image, train=False)
        position = loudest_weight(forms["grouped"].get_submodule(SPOILT_BLOCK), look)
        with put_back(forms["grouped"].get_parameter(f"{SPOILT_BLOCK}.conv2.weight")) as weight:
            nudge(weight, dtype, position=position)
            spoilt = look().output
        yield control("one weight nudged", "logits", logits[REFERENCE], spoilt, **common)
