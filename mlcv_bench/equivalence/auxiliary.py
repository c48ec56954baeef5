"""Subject `auxiliary`: GoogLeNet's auxiliary classifiers serve training alone (notes 2.1: at inference discarded)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from mlcv_bench.architectures.build import build
from mlcv_bench.equivalence import draws
from mlcv_bench.equivalence.comparison import judge, judge_counts, observe
from mlcv_bench.equivalence.controls import control, nudge, put_back
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.subject import Case, Finding

NETWORKS = ("googlenet", "googlenet_torchvision")
HEADS = ("aux1", "aux2")
INFERENCE = (2, 3, 64, 64)
TRAINING = (2, 3, 224, 224)


def cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield the paper's GoogLeNet and torchvision's."""
    for name in NETWORKS:
        yield Case(name, partial(examine, name, request))


def examine(name: str, request: VerifyRequest) -> Iterator[Finding]:
    """Compare the logits with and without the heads, then with heads of NaN, which nothing that runs them survives."""
    seed = partial(draws.generator, request.seed, name)
    full = draws.materialised(lambda: build(name, auxiliary=True), torch.float32)
    draws.fill_normal(full, seed("weights"))
    full.to(request.device)
    with torch.device("meta"):
        bare = build(name)
    trunk = {key: tensor for key, tensor in full.state_dict().items() if not key.startswith(HEADS)}
    bare.load_state_dict(trunk, assign=True)
    heads = [full.get_submodule(head) for head in HEADS]
    in_heads = sum(weight.numel() for head in heads for weight in head.parameters())
    yield judge_counts("without heads = with heads - heads", "parameters", _size(bare), _size(full) - in_heads)

    image = draws.normal(INFERENCE, seed("image"), torch.float32).to(request.device)
    logits = observe(bare, image, train=False).output
    same = partial(judge, quantity="logits", reference=logits, tolerance=0.0, dtype="float32", mode="eval")
    yield same("without heads = with heads", other=observe(full, image, train=False).output)
    with torch.no_grad():
        for head in heads:
            for weight in head.parameters():
                weight.fill_(torch.nan)
    yield same("without heads = with heads of NaN", other=observe(full, image, train=False).output)

    with put_back(next(bare.parameters())) as first:
        nudge(first, "float32")
        wrong = observe(bare, image, train=False).output
    found = partial(control, dtype="float32", tolerance=0.0)
    yield found("one weight of the trunk nudged", "logits", logits, wrong, mode="eval")
    larger = draws.normal(TRAINING, seed("training image"), torch.float32).to(request.device)
    trained = observe(full, larger, train=True).output
    yield found("heads of NaN in training", "outputs", trained, trained, mode="train")


def _size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
