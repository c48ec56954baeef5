"""The claims on architectures reach their verdicts, and lose them when the block behind them is broken."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mlcv_bench.architectures import googlenet, inception, layers, resnet
from mlcv_bench.architectures import resnext as networks
from mlcv_bench.claims import resnext as claims
from mlcv_bench.claims.claim import CLAIMS, examine
from mlcv_bench.counting import published
from mlcv_bench.equivalence import convolution

CHAPTER = [claim for claim in CLAIMS.values() if claim.quick and claim.section.startswith("2")]


@pytest.mark.parametrize("claim", CHAPTER, ids=lambda claim: claim.id)
def test_verdict(claim):
    found = examine(claim)
    assert found.status == "done", found.reason
    assert found.verdict == claim.expected, found.evidence
    assert found.evidence.scene


def wider_last_module(monkeypatch):
    monkeypatch.setitem(googlenet.FILTERS, "5b", googlenet.FILTERS["5b"]._replace(one=768))


def smaller_stem(monkeypatch):
    real = googlenet.ConvolutionUnit
    monkeypatch.setattr(googlenet, "ConvolutionUnit", lambda i, o, k, **kw: real(i, o, 5 if k == 7 else k, **kw))


def branches_in_another_order(monkeypatch):
    def forward(self, x):
        return torch.cat([self.branch2(x), self.branch1(x), self.branch3(x), self.branch4(x)], dim=1)

    monkeypatch.setattr(googlenet.InceptionModule, "forward", forward)


def built_with(owner, change):
    """Return a mutation that changes what a class builds."""

    def mutate(monkeypatch):
        real = owner.__init__

        def build(self, *arguments, **options):
            real(self, *arguments, **options)
            change(self)

        monkeypatch.setattr(owner, "__init__", build)

    return mutate


def average_in_a_module(module):
    module.branch4[0] = nn.AvgPool2d(3, 1, padding=1)


def pool_after_its_1x1(module):
    module.branch4 = nn.Sequential(*reversed(module.branch4))


def three_for_five(module):
    padded = module.branch3[1].conv
    module.branch3[1].conv = nn.Conv2d(padded.in_channels, padded.out_channels, 3, padding=1)


def without_relu(module):
    module.branch2[1].relu = nn.Identity()


def late_head(network):
    if network.auxiliary:
        network.aux1 = nn.Sequential(network.inception4b, network.aux1)


def global_maximum(network):
    network.avgpool = nn.AdaptiveMaxPool2d(1)


def heads_that_stay(monkeypatch):
    real = googlenet.GoogLeNet.forward

    def forward(self, x):
        out = real(self, x)
        return out if self.training or not self.auxiliary else out + 0.3

    monkeypatch.setattr(googlenet.GoogLeNet, "forward", forward)


def without_the_last_pool(network):
    network.maxpool4 = nn.Identity()


def norms_left_alone(monkeypatch):
    monkeypatch.setattr(resnet, "zero_last_norms", lambda network: None)


def always_before(monkeypatch):
    real = resnet.ResidualBlock.forward

    def forward(self, x):
        self.skip_after_relu = False
        return real(self, x)

    monkeypatch.setattr(resnet.ResidualBlock, "forward", forward)


def a_shift_in_the_residual(monkeypatch):
    """A third of a deviation: 38% of the additions are below zero, which 0.5 +- 0.4 would have let pass."""
    real = resnet.BasicBlock.residual
    monkeypatch.setattr(resnet.BasicBlock, "residual", lambda self, x: real(self, x) + 0.3)


def without_stride(monkeypatch):
    real = resnet.stage
    monkeypatch.setattr(resnet, "stage", lambda block, i, o, n, stride: real(block, i, o, n, 1))


def half_for_a_quarter(monkeypatch):
    real = resnet.Bottleneck
    monkeypatch.setattr(
        resnet, "Bottleneck", lambda i, o, *rest, **options: real(i, o, *rest, **{**options, "width": o // 2})
    )


def stride_in_the_3x3(monkeypatch):
    real = resnet.Bottleneck
    monkeypatch.setattr(resnet, "Bottleneck", lambda *shape, **options: real(*shape, **{**options, "stride_in": "3x3"}))


def five_for_seven(monkeypatch):
    real = inception.Unit
    monkeypatch.setattr(inception, "Unit", lambda i, o, k, **kw: real(i, o, (1, 5) if k == (1, 7) else k, **kw))


def sum_after_relu(monkeypatch):
    def forward(self, x):
        return x + self.project(self.branches(x)).relu()

    monkeypatch.setattr(inception.InceptionResNetBlock, "forward", forward)


def stacked_backwards(block):
    block.branches.branches = block.branches.branches[::-1]


def one_3x3_less(block):
    block.branches.branches[2] = block.branches.branches[2][:2]


def seven_turned(block):
    for layer in (block.branches.branches[1][1].conv, block.branches.branches[1][2].conv):
        layer.weight = nn.Parameter(layer.weight.transpose(2, 3))
        layer.padding = layer.padding[::-1]


def third_path(block):
    block.branches.branches.append(block.branches.branches[0])
    block.project = nn.Conv2d(3 * 128, 896, 1)


def half_the_groups(monkeypatch):
    class Conv2d(nn.Conv2d):
        def __init__(self, *args, groups=1, **options):
            super().__init__(*args, groups=max(1, groups // 2), **options)

    monkeypatch.setattr(nn, "Conv2d", Conv2d)


def chunks_in_another_order(monkeypatch):
    def forward(self, x):
        parts = x.chunk(self.groups, dim=1)
        return torch.cat([chunk(part) for chunk, part in zip(self.chunks, reversed(parts), strict=True)], dim=1)

    monkeypatch.setattr(layers.ChunkedConv2d, "forward", forward)


def norm_in_every_branch(monkeypatch):
    real = networks.ResNeXtBlock.residual

    def residual(self, x):
        return real(self, x) * (2 if self.form == "concat" else 1)

    monkeypatch.setattr(networks.ResNeXtBlock, "residual", residual)


def another_bottleneck(monkeypatch):
    real = published.matching_width
    monkeypatch.setattr(published, "matching_width", lambda groups, channels=256, inner=64: real(groups, channels, 60))


def a_fixed_256(monkeypatch):
    real = published.matching_width
    monkeypatch.setattr(published, "matching_width", lambda groups, channels=256, inner=64: real(groups, 256, inner))


def branches_on_chunks(monkeypatch):
    real = networks.Branch.forward

    def forward(self, x):
        x = torch.cat([x[:, :8], torch.zeros_like(x[:, 8:])], dim=1)
        return real(self, x)

    monkeypatch.setattr(networks.Branch, "forward", forward)


def twice_the_width(monkeypatch):
    real = claims.ResNeXtBlock
    monkeypatch.setattr(claims, "ResNeXtBlock", lambda i, o, groups, width: real(i, o, groups=groups, width=2 * width))


def blocks_off_the_diagonal(monkeypatch):
    real = convolution.to_block_diagonal
    monkeypatch.setattr(convolution, "to_block_diagonal", lambda weight, groups: real(weight, groups).roll(3, 1))


def norm_left_out(block):
    block.bn2 = nn.Identity()


def branches_of_other_inputs(monkeypatch):
    def forward(self, x):
        return torch.cat([branch(x if number == 0 else x.relu()) for number, branch in enumerate(self.branches)], dim=1)

    monkeypatch.setattr(inception.Branches, "forward", forward)


MODULE, NETWORK = googlenet.InceptionModule, googlenet.GoogLeNet
BLOCK_A, BLOCK_B = inception.InceptionResNetA, inception.InceptionResNetB
MUTATIONS = [
    ("2.2-batch-norm", built_with(resnet.BasicBlock, norm_left_out)),
    ("2.3-split-transform-merge", branches_of_other_inputs),
    ("2.3-split-transform-merge", branches_in_another_order),
    ("2.1-cheap", wider_last_module),
    ("2.1-stem", smaller_stem),
    ("2.1-module", branches_in_another_order),
    ("2.1-module", built_with(MODULE, average_in_a_module)),
    ("2.1-module", built_with(MODULE, pool_after_its_1x1)),
    ("2.1-module", built_with(MODULE, three_for_five)),
    ("2.1-module", built_with(MODULE, without_relu)),
    ("2.1-auxiliary", heads_that_stay),
    ("2.1-auxiliary-position", built_with(NETWORK, late_head)),
    ("2.1-gap", built_with(NETWORK, without_the_last_pool)),
    ("2.1-gap", built_with(NETWORK, global_maximum)),
    ("2.2-identity", norms_left_alone),
    ("2.2-skip-before-relu", always_before),
    ("2.2-skip-before-relu", a_shift_in_the_residual),
    ("2.2-stage", without_stride),
    ("2.2-bottleneck", half_for_a_quarter),
    ("2.2-bottleneck", stride_in_the_3x3),
    ("2.2-inception-resnet-a", sum_after_relu),
    ("2.2-inception-resnet-a", built_with(BLOCK_A, stacked_backwards)),
    ("2.2-inception-resnet-a", built_with(BLOCK_A, one_3x3_less)),
    ("2.2-inception-resnet-b", sum_after_relu),
    ("2.2-inception-resnet-b", built_with(BLOCK_B, stacked_backwards)),
    ("2.2-inception-resnet-b", built_with(BLOCK_B, seven_turned)),
    ("2.2-inception-resnet-b", built_with(BLOCK_B, third_path)),
    ("2.2-factorised", five_for_seven),
    ("2.3-grouped", half_the_groups),
    ("2.3-grouped-blocks", chunks_in_another_order),
    ("2.3-grouped-kernels", half_the_groups),
    ("2.3-grouped-kernels", chunks_in_another_order),
    ("2.3-branching", branches_on_chunks),
    ("2.3-branching", half_the_groups),
    ("2.3-forms", norm_in_every_branch),
    ("2.3-width", another_bottleneck),
    ("2.3-width", a_fixed_256),
    ("2.3-like-bottleneck", twice_the_width),
    ("2.3-less-expressive", blocks_off_the_diagonal),
]
"""None of the chapter's claims is pure arithmetic: every one has a block that can be broken."""


def test_every_quick_claim_has_a_mutation():
    assert {name for name, _ in MUTATIONS} == {claim.id for claim in CHAPTER}


@pytest.mark.parametrize(("name", "mutate"), MUTATIONS)
def test_a_mutation_changes_the_verdict(name, mutate, monkeypatch):
    mutate(monkeypatch)
    found = examine(CLAIMS[name])
    assert found.status == "done", found.reason
    assert found.verdict != CLAIMS[name].expected, found.evidence
