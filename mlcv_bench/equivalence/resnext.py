"""Subject `resnext`: one function in three forms, as single blocks and as a whole network (notes 2.3.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.build import build
from mlcv_bench.architectures.resnext import Form, ResNeXtBlock
from mlcv_bench.equivalence.comparison import judge, longest_reduction, tolerance_of, type_of
from mlcv_bench.equivalence.evidence import State
from mlcv_bench.equivalence.exact import without_norms
from mlcv_bench.equivalence.harness import (
    Conditions,
    ControlSite,
    Formulation,
    NegativeControl,
    Reformulation,
    arranged_by,
    check,
    compare,
    cut_off,
    for_groups,
    put_back,
)
from mlcv_bench.equivalence.randomness import calibrate, filled, generator, normal
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.subject import Case, Finding
from mlcv_bench.equivalence.transplants import convert, transplant
from mlcv_bench.trials import NotApplicableError

FORMS: tuple[Form, ...] = ("branches", "concat", "grouped")
"""The first is the notes' definition, with which the other two are compared; the last has few, long tensors."""
BRANCHES, _, GROUPED = range(len(FORMS))
BATCH = 2
NETWORK = "resnext50_32x4d"
NETWORK_INPUT = (3, 64, 64)
NUDGED_BLOCK = "layer3.0"
CALIBRATION_BATCH = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of block: its place in a stage. `size` is the side of the square map that enters it."""

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
class BlockCase:
    """One block to examine: the notes' G, d and channels, and its place in a stage."""

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
        for groups, width in request.branchings():
            for shape in SHAPES:
                block = BlockCase(groups, width, channels, shape)
                yield Case(block.name, partial(examine_block, block, request))
    yield Case(f"{NETWORK} 3x64x64", partial(examine_network, request))


def in_all_forms(source: nn.Module, own: Form, build_form: Callable[[Form], nn.Module]) -> list[Formulation]:
    """Return the source and its two other forms, with the source's weights and statistics transplanted into them.

    Gradients and statistics are compared in the layout of the grouped form.
    """
    forms: dict[Form, nn.Module] = {}
    for form in FORMS:
        if form == own:
            forms[form] = source
            continue
        with torch.device("meta"):
            target = build_form(form)
        forms[form] = transplant(source, target).train(source.training)
    layout = forms["grouped"]
    return [
        Formulation(form, module, arranged_by(partial(converted, module, layout))) for form, module in forms.items()
    ]


def converted(source: nn.Module, layout: nn.Module, state: State) -> State:
    """Convert what a form showed; branches that disagree among themselves equal nothing, and nothing breaks."""
    try:
        return convert(state, source, layout)
    except ValueError as error:
        return {str(error): torch.tensor(torch.nan)}


def formulations(block: BlockCase, request: VerifyRequest, *, exact: bool) -> list[Formulation]:
    """Build a block in all forms; for the exact check without batch norm, which divides."""

    def build_form(form: Form) -> nn.Module:
        return without_norms(block.build(form)) if exact else block.build(form)

    reference = filled(lambda: build_form(FORMS[0]), request.seed, block.name, exact=exact)
    return in_all_forms(reference.to(request.device), FORMS[0], build_form)


def examine_block(block: BlockCase, request: VerifyRequest) -> Iterator[Finding]:
    """Compare the three forms of one block: round trips of the weights, then all that the forms show."""
    drawn = formulations(block, request, exact=False)
    yield from round_trips(drawn)
    yield from check(
        Reformulation(
            block.name,
            block.image,
            exact=formulations(block, request, exact=True),
            drawn=drawn,
            controls=for_groups(CONTROLS, block.groups) if block.shape == SHAPES[0] else (),
            modes=request.modes,
            kinks=True,
            simplest=GROUPED,
        ),
        request,
    )


def round_trips(forms: list[Formulation]) -> Iterator[Finding]:
    """Carry the weights and statistics from each form into each other and back: the same bits must return."""
    for source in forms:
        state = source.module.state_dict()
        for via in forms:
            if via is source:
                continue
            there = convert(state, source.module, via.module)
            back = convert(there, via.module, source.module)
            title = f"{source.name} -> {via.name} -> {source.name}"
            yield judge(title, "round trip", state, back, tolerance=0.0, dtype="float64")


def examine_network(request: VerifyRequest) -> Iterator[Finding]:
    """Compare the logits of a whole network in its three forms, in evaluation mode, after calibration.

    The last norm of each of the L blocks is scaled by 1 / sqrt(L) (Hayou et al. 2021), as in trained networks, whose
    blocks add little: with unit scales the untrained network itself amplifies rounding with depth.
    """
    grouped = filled(lambda: build(NETWORK), request.seed, NETWORK, dtype=torch.float32)
    blocks = [module for module in grouped.modules() if isinstance(module, ResNeXtBlock)]
    with torch.no_grad():
        for module in blocks:
            module.last_norm().get_parameter("weight").mul_(len(blocks) ** -0.5)
    grouped.to(request.device)
    source = generator(request.seed, NETWORK, "images")
    images = normal((CALIBRATION_BATCH, *NETWORK_INPUT), source, torch.float32).to(request.device)
    calibrate(grouped, images)
    forms = in_all_forms(grouped, "grouped", lambda form: build(NETWORK, form=form))
    control = NegativeControl("one weight nudged", GROUPED, "output", partial(nudged_weight, NUDGED_BLOCK))
    for dtype in request.dtypes:
        for form in forms:
            form.module.to(type_of(dtype))
        image, tolerance = images[:BATCH].to(type_of(dtype)), tolerance_of(dtype, longest_reduction(grouped))
        at = Conditions(image, None, dtype, "eval", tolerance, logits=True)
        yield from compare(forms, [at.look(form.module) for form in forms], at, [control])


@contextlib.contextmanager
def nudged_weight(place: str, site: ControlSite) -> Iterator[None]:
    """Move one weight of the grouped convolution of the block at `place`, where a ReLU lets it show."""
    block = site.module.get_submodule(place)
    position = loudest_weight(block, site.run)
    with site.nudged(block.conv2.weight, position):
        yield


def loudest_weight(block: Any, run: Callable[[], object]) -> tuple[int, ...]:  # noqa: ANN401 - a grouped block
    """Return the middle tap between the grouped convolution's loudest output channel and its group's loudest input.

    A weight whose output the ReLU cuts off everywhere, or whose input is zero everywhere, changes nothing when moved.
    `run` runs the network that the block belongs to.

    Raises:
        NotApplicableError: no weight shows at all.

    """
    heard: dict[str, Tensor] = {}

    def listen(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: heard.update({name: inputs[0].detach().double().sum(dim=(0, 2, 3))})

    with contextlib.ExitStack() as stack:
        for name in ("conv2", "conv3"):
            stack.callback(getattr(block, name).register_forward_pre_hook(listen(name)).remove)
        run()
    output = int(heard["conv3"].argmax())
    _, per_group, *kernel = block.conv2.weight.shape
    group = output // (block.conv2.out_channels // block.conv2.groups)
    inputs = heard["conv2"][group * per_group : (group + 1) * per_group]
    if not (heard["conv3"][output] > 0 and inputs.max() > 0):
        msg = "every channel of the grouped convolution is cut off by a ReLU, so no weight of it shows"
        raise NotApplicableError(msg)
    return output, int(inputs.argmax()), *(size // 2 for size in kernel)


@contextlib.contextmanager
def swapped_groups(site: ControlSite) -> Iterator[None]:
    """Let the first two groups convolve each other's channels."""
    with put_back(site.module.conv2.weight) as weight, torch.no_grad():
        first, second = weight.chunk(site.module.groups)[:2]
        kept = first.clone()
        first.copy_(second)
        second.copy_(kept)
        yield


@contextlib.contextmanager
def norm_before_the_sum(site: ControlSite) -> Iterator[None]:
    """Normalise every branch, then sum: the right order is sum, norm, shortcut."""
    block = site.module
    norm = block.bn3
    handles = [branch.register_forward_hook(lambda _m, _i, output: norm(output)) for branch in block.branches]
    block.bn3 = nn.Identity()
    try:
        # The norm is outside the block for now, so whoever restores the block's statistics misses it.
        with contextlib.ExitStack() as stack:
            for buffer in norm.buffers():
                stack.enter_context(put_back(buffer))
            yield
    finally:
        block.bn3 = norm
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def hasty_statistics(site: ControlSite) -> Iterator[None]:
    """Let one branch's batch norm forget its past; outputs and gradients in training stay the same."""
    norm = site.module.branches[0].bn1
    momentum = norm.momentum
    norm.momentum = 1.0
    try:
        yield
    finally:
        norm.momentum = momentum


CONTROLS = (
    NegativeControl("one weight nudged", GROUPED, "output", partial(nudged_weight, "")),
    NegativeControl("two groups swapped", GROUPED, "output", swapped_groups, several=True),
    NegativeControl("batch norm before the sum", BRANCHES, "output", norm_before_the_sum, exact=False, several=True),
    NegativeControl("a branch cut off the backward pass", BRANCHES, "weight gradients", partial(cut_off, "branches.0")),
    NegativeControl(
        "one branch with another momentum",
        BRANCHES,
        "batch-norm statistics",
        hasty_statistics,
        modes=("train",),
        exact=False,
    ),
)
