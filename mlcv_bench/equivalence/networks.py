"""Subjects `auxiliary`, `published` and `torchvision`: networks of the catalogue, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import nn

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.build import build
from mlcv_bench.counting.cost import Cost, count
from mlcv_bench.counting.published import Published, figures
from mlcv_bench.equivalence.comparison import as_control, judge_counts, longest_reduction, tolerance_of
from mlcv_bench.equivalence.harness import (
    Conditions,
    Formulation,
    NegativeControl,
    compare,
    first_weight_nudged,
    nudge,
    put_back,
)
from mlcv_bench.equivalence.randomness import calibrate, filled, generator, normal
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.subject import Case, Finding
from mlcv_bench.errors import UsageError
from mlcv_bench.records import shape_text
from mlcv_bench.trials import NotApplicableError

WITH_HEADS = ("googlenet", "googlenet_torchvision")
HEADS = ("aux1", "aux2")
INFERENCE = (2, 3, 64, 64)
TRAINING = (2, 3, 224, 224)


def auxiliary_cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield the paper's GoogLeNet and torchvision's: auxiliary heads are for training alone (notes 2.1)."""
    for name in WITH_HEADS:
        yield Case(name, partial(examine_heads, name, request))


def examine_heads(name: str, request: VerifyRequest) -> Iterator[Finding]:
    """Compare the logits with and without the heads, then with heads of NaN, which shows in whatever runs them."""
    seed = partial(generator, request.seed, name)
    full = filled(lambda: build(name, auxiliary=True), request.seed, name, dtype=torch.float32).to(request.device)
    with torch.device("meta"):
        bare = build(name)
    trunk = {key: tensor for key, tensor in full.state_dict().items() if not key.startswith(HEADS)}
    bare.load_state_dict(trunk, assign=True)
    heads = [full.get_submodule(head) for head in HEADS]
    in_heads = sum(weight.numel() for head in heads for weight in head.parameters())
    yield judge_counts("without heads = with heads - heads", "parameters", _size(bare), _size(full) - in_heads)

    image = normal(INFERENCE, seed("image"), torch.float32).to(request.device)
    at = Conditions(image, None, "float32", "eval", tolerance=0.0)
    logits = at.look(bare).output
    yield at.judge("without heads = with heads", "logits", logits, at.look(full).output)
    with torch.no_grad():
        for head in heads:
            for weight in head.parameters():
                weight.fill_(torch.nan)
    yield at.judge("without heads = with heads of NaN", "logits", logits, at.look(full).output)

    with put_back(next(bare.parameters())) as first:
        nudge(first, "float32")
        wrong = at.look(bare).output
    yield as_control(at.judge("one weight of the trunk nudged", "logits", logits, wrong))
    larger = normal(TRAINING, seed("training image"), torch.float32).to(request.device)
    in_training = Conditions(larger, None, "float32", "train", tolerance=0.0)
    trained = in_training.look(full).output
    yield as_control(in_training.judge("heads of NaN in training", "outputs", trained, trained))


def _size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


EASILY_MISTAKEN = {
    "resnet50": ("resnet50_v1_5", "the stage's stride in the 3x3"),
    "resnet101": ("resnet101_v1_5", "the stage's stride in the 3x3"),
    "resnet152": ("resnet152_v1_5", "the stage's stride in the 3x3"),
    "googlenet": ("googlenet_torchvision", "3x3 where 5x5 should be, and batch norm"),
    "inception_resnet_v2_paper": ("inception_resnet_v2", "the widths everyone ships"),
    "resnext50_32x4d": ("resnext50_4x24d", "another G and d"),
    "vgg16": ("vgg19", "three layers more"),
}
"""For some networks another one that is easily taken for it, whose count must not pass, and what is other there."""


def published_cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield every figure that a paper or table prints, or that was recounted from it, in the order of the file."""
    del request
    once = cache(count)  # of one network there are figures by several sources
    for figure in figures():
        yield Case(f"{figure.name} {shape_text(figure.input)} {figure.source}", partial(examine_figure, figure, once))


def examine_figure(figure: Published, count: Callable[..., Cost]) -> Iterator[Finding]:
    """Count the network: a recount must agree to the integer, a printed figure in the digits that are printed.

    A printed figure that is known to be wrong is reported with what is wrong.
    """
    cost = count(figure.name, input=figure.input)
    for quantity, known, counted in (("parameters", figure.params, cost.params), ("MACs", figure.macs, cost.macs)):
        if known is None:
            continue
        if figure.kind == "recount":
            yield judge_counts("recounted = counted", quantity, known.value, counted)
            continue
        gap = abs(known.value - counted)
        both = f"printed {known.value:,}, counted {counted:,}"
        printed = partial(
            Finding, "printed, counted", quantity, max_abs_error=float(gap), max_rel_error=gap / known.value
        )
        if figure.remark:
            yield printed("report", reason=f"{both}: {figure.remark}")
        else:
            met = known.is_met_by(counted)
            yield printed("rounding", tolerance=known.digit / known.value, passed=met, reason="" if met else both)
    if figure.kind == "recount" and figure.name in EASILY_MISTAKEN and figure.macs is not None:
        other, what = EASILY_MISTAKEN[figure.name]
        counted = count(other, input=figure.input).macs
        yield as_control(judge_counts(what, "MACs", figure.macs.value, counted))


BATCH = 4
SIDE = 64
"""Of the square images, where the network accepts them: the logits prove the same at a twelfth of the cost."""
OPTIONS = {"googlenet": {"aux_logits": False, "init_weights": False}}
"""What torchvision's builders need to leave out what ours leaves out."""


def torchvision_cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield every network of the catalogue that torchvision has too."""
    for architecture in catalog.ARCHITECTURES.values():
        if architecture.torchvision is not None:
            yield Case(architecture.name, partial(examine_parity, architecture, request))


def theirs(name: str) -> nn.Module:
    """Build torchvision's network of this name without weights.

    Raises:
        NotApplicableError: torchvision does not import here, or has no such network.

    """
    try:
        with torch.device("meta"):
            return build(f"torchvision:{name}", **OPTIONS.get(name, {}))
    except UsageError as error:
        raise NotApplicableError(str(error)) from error


def examine_parity(architecture: catalog.Architecture, request: VerifyRequest) -> Iterator[Finding]:
    """Load one state dict into both networks and compare the logits; then nudge a weight of theirs."""
    other = theirs(architecture.torchvision or architecture.name)
    ours = filled(lambda: build(architecture.name), request.seed, architecture.name, dtype=torch.float32)
    ours.to(request.device)
    other.load_state_dict(ours.state_dict(), assign=True)
    side = max(SIDE, architecture.smallest)
    source = generator(request.seed, architecture.name, "image")
    image = normal((BATCH, 3, side, side), source, torch.float32).to(request.device)
    calibrate(ours, image)
    # The two share their tensors: what ours showed is kept when theirs is nudged.
    other.load_state_dict(ours.state_dict(), assign=True)
    at = Conditions(image, None, "float32", "eval", tolerance_of("float32", longest_reduction(ours)), logits=True)
    both = [Formulation("ours", ours), Formulation("torchvision's", other)]
    control = NegativeControl("one weight nudged", 1, "output", first_weight_nudged)
    yield from compare(both, [at.look(one.module) for one in both], at, [control])
