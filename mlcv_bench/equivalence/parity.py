"""Subject `torchvision`: the same state dict gives the same logits here and there, for every network that both have."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.build import build
from mlcv_bench.equivalence import draws
from mlcv_bench.equivalence.comparison import judge, observe
from mlcv_bench.equivalence.controls import control, nudge
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.subject import Case, Finding
from mlcv_bench.equivalence.tolerance import longest_reduction, tolerance_of
from mlcv_bench.errors import UsageError
from mlcv_bench.trials import NotApplicableError

BATCH = 4
SIDE = 64
"""Of the square images, where the network accepts them: the logits prove the same at a twelfth of the cost."""
OPTIONS = {"googlenet": {"aux_logits": False, "init_weights": False}}
"""What torchvision's builders need to leave out what ours leaves out."""


def cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield every network of the catalogue that torchvision has too."""
    for architecture in catalog.ARCHITECTURES.values():
        if architecture.torchvision is not None:
            yield Case(architecture.name, partial(examine, architecture, request))


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


def examine(architecture: catalog.Architecture, request: VerifyRequest) -> Iterator[Finding]:
    """Load one state dict into both networks and compare the logits; then spoil theirs."""
    other = theirs(architecture.torchvision or architecture.name)
    ours = draws.materialised(lambda: build(architecture.name), torch.float32)
    draws.fill_normal(ours, draws.generator(request.seed, architecture.name, "weights"))
    ours.to(request.device)
    other.load_state_dict(ours.state_dict(), assign=True)
    side = max(SIDE, architecture.smallest)
    source = draws.generator(request.seed, architecture.name, "image")
    image = draws.normal((BATCH, 3, side, side), source, torch.float32).to(request.device)
    draws.calibrate(ours, image)
    other.load_state_dict(ours.state_dict(), assign=True)
    tolerance = tolerance_of("float32", longest_reduction(ours))
    logits = observe(ours, image, train=False).output
    shown = observe(other, image, train=False).output
    yield judge("ours = torchvision's", "logits", logits, shown, tolerance=tolerance, dtype="float32", mode="eval")
    # The two share their weights, so the spoilt one gets a copy of its own.
    first, weight = next(other.named_parameters())
    place, _, key = first.rpartition(".")
    spoilt = nn.Parameter(weight.detach().clone())
    nudge(spoilt, "float32")
    setattr(other.get_submodule(place), key, spoilt)
    shown = observe(other, image, train=False).output
    yield control("one weight nudged", "logits", logits, shown, tolerance=tolerance, dtype="float32", mode="eval")
