"""One table of deliberate mutations of the transplant and of the blocks: the suite must detect each."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch

from mlcv_bench.architectures.resnet import ResidualBlock
from mlcv_bench.architectures.resnext import Branch, ResNeXtBlock
from mlcv_bench.equivalence import resnext, transplants
from mlcv_bench.equivalence.request import VerifyRequest

SETTINGS = VerifyRequest(dtypes=("float64",))
BLOCKS = (
    resnext.BlockCase(3, 2, 8, resnext.Shape(1, projection=False, size=5)),
    resnext.BlockCase(3, 2, 8, resnext.Shape(2, projection=True, size=6)),
)


def detected():
    """Return the quantities in which the forms differ; a mutation that breaks the machinery counts as `broken`."""
    wrong = []
    for block in BLOCKS:
        try:
            wrong += [
                finding.quantity
                for finding in resnext.examine_block(block, SETTINGS)
                if finding.passed is False and finding.proof != "control"
            ]
        except (ValueError, RuntimeError, KeyError):
            wrong.append("broken")
    return set(wrong)


# Mutations of the transplant ---------------------------------------------------------------------------------------


def joined_wrongly(change):
    """Return a mutation that changes what `join` gives."""

    def mutate(monkeypatch):
        right = transplants.join

        def join(state, form, groups):
            out = right(state, form, groups)
            return out if form == "grouped" else change(out, groups)

        monkeypatch.setattr(transplants, "join", join)

    return mutate


def split_wrongly(change):
    """Return a mutation that changes what `split` takes."""

    def mutate(monkeypatch):
        right = transplants.split

        def split(state, form, groups):
            return right(state if form == "grouped" else change(dict(state), groups), form, groups)

        monkeypatch.setattr(transplants, "split", split)

    return mutate


def on(keys, function):
    """Return a change of the tensors whose keys end so."""

    def change(state, groups):
        return {key: function(tensor, groups) if key.endswith(keys) else tensor for key, tensor in state.items()}

    return change


def swapped(one, other):
    def change(state, groups):
        del groups
        names = {key: key.replace(one, other) if one in key else key.replace(other, one) for key in state}
        return {key: state.get(names[key], tensor) for key, tensor in state.items()}

    return change


def without(part):
    return lambda state, groups: {
        key: torch.zeros_like(tensor) if part in key else tensor for key, tensor in state.items()
    }


def rolled_groups(tensor, groups):
    return tensor.roll(tensor.shape[0] // groups, 0)


def first_branch_everywhere(tensor, groups):
    return torch.cat([tensor.chunk(groups)[0]] * groups)


def stacked_by_channel(tensor, groups):
    """Interleave the branches' channels instead of stacking branch after branch."""
    return tensor.view(groups, -1, *tensor.shape[1:]).transpose(0, 1).reshape(tensor.shape)


TRANSPLANTS = {
    "join: 3x3 groups in another order": joined_wrongly(on("conv2.weight", rolled_groups)),
    "join: first 1x1 in another order": joined_wrongly(on("conv1.weight", rolled_groups)),
    "join: second 1x1 in another order": joined_wrongly(on("conv3.weight", lambda t, g: t.roll(t.shape[1] // g, 1))),
    "join: every branch is the first": joined_wrongly(on("conv2.weight", first_branch_everywhere)),
    "join: channels interleaved": joined_wrongly(on("conv1.weight", stacked_by_channel)),
    "join: 3x3 kernels flipped": joined_wrongly(on("conv2.weight", lambda t, _g: t.flip(-1))),
    "join: 3x3 kernels transposed": joined_wrongly(on("conv2.weight", lambda t, _g: t.transpose(-1, -2))),
    "join: 3x3 inputs and outputs exchanged": joined_wrongly(
        on("conv2.weight", lambda t, g: torch.cat([part.transpose(0, 1) for part in t.chunk(g)]))
    ),
    "join: sum taken for a mean": joined_wrongly(on("conv3.weight", lambda t, g: t / g)),
    "join: running variances forgotten": joined_wrongly(without("bn1.running_var")),
    "join: running means forgotten": joined_wrongly(without("bn2.running_mean")),
    "join: means and variances exchanged": joined_wrongly(swapped("running_mean", "running_var")),
    "join: first and second norm exchanged": joined_wrongly(swapped("bn1", "bn2")),
    "join: last norm forgotten": joined_wrongly(without("bn3.bias")),
    "join: batches not counted": joined_wrongly(on("num_batches_tracked", lambda t, _g: t + 1)),
    "join: norm's scales and shifts exchanged": joined_wrongly(swapped("bn2.weight", "bn2.bias")),
    "split: 3x3 groups in another order": split_wrongly(on("conv2.weight", rolled_groups)),
    "split: norm in another order": split_wrongly(on("bn1.weight", rolled_groups)),
    "split: statistics in another order": split_wrongly(on("running_mean", rolled_groups)),
    "split: one value off by one rounding": split_wrongly(
        on("conv1.weight", lambda t, _g: torch.nextafter(t, torch.full_like(t, torch.inf)))
    ),
    "split: projection not carried": split_wrongly(without("downsample.0")),
    "transplant: the target keeps its own weights": lambda monkeypatch: monkeypatch.setattr(
        transplants, "_load", lambda _state, target: target.to_empty(device="cpu").double().apply(constant)
    ),
}


@torch.no_grad()
def constant(module):
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        tensor.fill_(1)


# Mutations of the blocks -------------------------------------------------------------------------------------------


def residual(form, wrong):
    """Return a mutation of F(x) in one form."""

    def mutate(monkeypatch):
        right = ResNeXtBlock.residual
        monkeypatch.setattr(
            ResNeXtBlock, "residual", lambda block, x: (wrong if block.form == form else right)(block, x)
        )

    return mutate


def forward(form, wrong):
    """Return a mutation of relu(F(x) + x) in one form."""

    def mutate(monkeypatch):
        right = ResidualBlock.forward
        monkeypatch.setattr(
            ResNeXtBlock, "forward", lambda block, x: (wrong if block.form == form else right)(block, x)
        )

    return mutate


def attribute(form, path, value):
    """Return a mutation of one attribute of a layer of one form."""

    def mutate(monkeypatch):
        right = ResNeXtBlock.__init__

        def init(self, *args, **options):
            right(self, *args, **options)
            if options["form"] == form:
                layer, _, name = path.rpartition(".")
                setattr(self.get_submodule(layer), name, value)

        monkeypatch.setattr(ResNeXtBlock, "__init__", init)

    return mutate


def branch(wrong):
    """Return a mutation of one branch's forward pass, in both forms that have branches; grouped stays right."""
    return lambda monkeypatch: monkeypatch.setattr(Branch, "forward", wrong)


def summed(block, x, branches):
    total = sum(part(x) for part in branches)
    return block.bn3(total)


def branch_without_second_relu(self, x):
    x = self.relu(self.bn1(self.conv1(x)))
    x = self.bn2(self.conv2(x))
    return x if self.conv3 is None else self.conv3(x)


def branch_with_norm_after_relu(self, x):
    x = self.bn1(self.relu(self.conv1(x)))
    x = self.relu(self.bn2(self.conv2(x)))
    return x if self.conv3 is None else self.conv3(x)


def skip_after_relu(block, x):
    skipped = x if block.downsample is None else block.downsample(x)
    return skipped + block.relu(block.residual(x))


def no_skip(block, x):
    return block.relu(block.residual(x))


def no_last_relu(block, x):
    skipped = x if block.downsample is None else block.downsample(x)
    return block.residual(x) + skipped


def skip_without_gradient(block, x):
    skipped = x if block.downsample is None else block.downsample(x)
    return block.relu(block.residual(x) + skipped.detach())


def concat_backwards(block, x):
    return block.bn3(block.conv3(torch.cat([part(x) for part in reversed(block.branches)], dim=1)))


def grouped_shuffled(block, x):
    x = block.relu(block.bn1(block.conv1(x)))
    x = block.relu(block.bn2(block.conv2(x.roll(1, 1))))
    return block.bn3(block.conv3(x))


def grouped_without_gradient(block, x):
    x = block.relu(block.bn1(block.conv1(x.detach())))
    x = block.relu(block.bn2(block.conv2(x)))
    return block.bn3(block.conv3(x))


def grouped_relu_before_norm(block, x):
    x = block.relu(block.bn1(block.conv1(x)))
    x = block.relu(block.bn2(block.conv2(x)))
    return block.bn3(torch.relu(block.conv3(x)) * 1.0)


def grouped_normed_twice(block, x):
    x = block.relu(block.bn1(block.conv1(x)))
    with torch.no_grad():
        block.bn2(block.conv2(x))
    x = block.relu(block.bn2(block.conv2(x)))
    return block.bn3(block.conv3(x))


def detached_branch(block, x):
    return block.bn3(block.branches[0](x).detach() + sum(part(x) for part in block.branches[1:]))


MUTATED_BLOCKS = {
    "branches: the last one not summed": residual("branches", lambda b, x: summed(b, x, b.branches[:-1])),
    "branches: the first one summed twice": residual(
        "branches", lambda b, x: summed(b, x, [*b.branches, b.branches[0]])
    ),
    "branches: mean for sum": residual("branches", lambda b, x: b.bn3(sum(p(x) for p in b.branches) / b.groups)),
    "branches: norm before the sum": residual("branches", lambda b, x: sum(b.bn3(part(x)) for part in b.branches)),
    "branches: no norm after the sum": residual("branches", lambda b, x: sum(part(x) for part in b.branches)),
    "branches: one cut off the backward pass": residual("branches", detached_branch),
    "branches: second ReLU forgotten": branch(branch_without_second_relu),
    "branches: norm after ReLU": branch(branch_with_norm_after_relu),
    "branches: shortcut after the ReLU": forward("branches", skip_after_relu),
    "concat: stacked backwards": residual("concat", concat_backwards),
    "concat: no shortcut": forward("concat", no_skip),
    "concat: no last ReLU": forward("concat", no_last_relu),
    "concat: shortcut cut off the backward pass": forward("concat", skip_without_gradient),
    "concat: another epsilon in one branch": attribute("concat", "branches.1.bn1.eps", 1e-3),
    "concat: another momentum in one branch": attribute("concat", "branches.1.bn2.momentum", 0.2),
    "grouped: another epsilon": attribute("grouped", "bn3.eps", 1e-6),
    "grouped: another momentum": attribute("grouped", "bn1.momentum", 0.01),
    "grouped: dilated 3x3, padded to fit": lambda monkeypatch: (
        attribute("grouped", "conv2.dilation", (2, 2))(monkeypatch),
        attribute("grouped", "conv2.padding", (2, 2))(monkeypatch),
    ),
    "grouped: 3x3 padded by reflection": attribute("grouped", "conv2.padding_mode", "reflect"),
    "grouped: channels shifted before the 3x3": residual("grouped", grouped_shuffled),
    "grouped: input cut off the backward pass": residual("grouped", grouped_without_gradient),
    "grouped: ReLU before the last norm": residual("grouped", grouped_relu_before_norm),
    "grouped: statistics updated twice": residual("grouped", grouped_normed_twice),
    "grouped: stride in the first 1x1": lambda monkeypatch: (
        attribute("grouped", "conv1.stride", (2, 2))(monkeypatch),
        attribute("grouped", "conv2.stride", (1, 1))(monkeypatch),
    ),
}
MUTATIONS = TRANSPLANTS | MUTATED_BLOCKS
ALONE = {
    "concat: another momentum in one branch": "batch-norm statistics",
    "grouped: another momentum": "batch-norm statistics",
    "grouped: statistics updated twice": "batch-norm statistics",
    "grouped: input cut off the backward pass": "input gradient",
    "concat: shortcut cut off the backward pass": "input gradient",
    "branches: one cut off the backward pass": "weight gradients",
}
"""Mutations that leave outputs as they are: what each must show in."""


def test_nothing_is_detected_where_nothing_is_mutated():
    assert detected() == set()


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_detected(name, monkeypatch):
    MUTATIONS[name](monkeypatch)
    found = detected()
    assert found, name
    assert "broken" not in found or name == "grouped: stride in the first 1x1", found
    if name in ALONE:
        assert ALONE[name] in found
        assert "output" not in found


@pytest.mark.parametrize("control", resnext.CONTROLS, ids=lambda control: control.name)
def test_a_control_that_does_nothing_goes_unnoticed_and_fails(control, monkeypatch):
    monkeypatch.setattr(resnext, "CONTROLS", [dataclasses.replace(control, make=nothing)])
    findings = list(resnext.examine_block(resnext.BlockCase(2, 2, 4, resnext.SHAPES[0]), SETTINGS))
    unnoticed = [finding for finding in findings if finding.control_detected is False]
    assert unnoticed
    assert all(finding.passed is False for finding in unnoticed)


@contextlib.contextmanager
def nothing(_site):
    yield


def nudges(dead, monkeypatch):
    """Examine a small block whose grouped convolution gives nothing but negative numbers in the channels `dead`."""
    from mlcv_bench.equivalence import randomness

    def fill(draw):
        def filled(module, source):
            draw(module, source)
            state = module.state_dict()
            with torch.no_grad():
                for branch, channel in ((where // 3, where % 3) for where in dead):
                    state[f"branches.{branch}.conv2.weight"][channel] = -1.0
                    if f"branches.{branch}.bn2.weight" in state:
                        state[f"branches.{branch}.bn2.weight"][channel] = 0.0
                        state[f"branches.{branch}.bn2.bias"][channel] = -1.0

        return filled

    monkeypatch.setattr(randomness, "fill_normal", fill(randomness.fill_normal))
    monkeypatch.setattr(randomness, "fill_whole", fill(randomness.fill_whole))
    only = [control for control in resnext.CONTROLS if control.name == "one weight nudged"]
    monkeypatch.setattr(resnext, "CONTROLS", only)
    findings = resnext.examine_block(resnext.BlockCase(2, 3, 6, resnext.SHAPES[0]), SETTINGS)
    return [finding for finding in findings if finding.proof == "control"]


def test_a_nudge_is_made_where_a_relu_lets_it_show(monkeypatch):
    # The middle output channel, which would be nudged otherwise, is the fourth of six.
    found = nudges([2, 3, 4], monkeypatch)
    assert len(found) > 2
    assert all(finding.control_detected for finding in found)


def test_where_no_nudge_can_show_the_control_is_skipped_with_the_reason(monkeypatch):
    found = nudges(range(6), monkeypatch)
    assert len(found) > 2
    assert {finding.status for finding in found} == {"skipped"}
    assert all("cut off by a ReLU" in finding.reason and finding.control_detected is None for finding in found)
