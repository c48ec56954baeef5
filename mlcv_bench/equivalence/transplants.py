"""Weights carried from one network into another that computes the same: the user's own way, or the notes' (2.3.1).

Between the three forms of a ResNeXt block the grouped form is the hub. Into it a layer's branches are stacked:

- first 1x1: all branches read the same input, so their kernels are stacked along the output channels;
- 3x3: likewise, and the convolution gets G groups, since branch b reads its own d channels alone;
- second 1x1: branch outputs are summed, so kernels are stacked along the *input* channels;
- batch norm works channel by channel, so its scales, shifts and statistics are stacked like their channels.

Nothing is added or multiplied: values move. So gradients and running statistics are carried by the same functions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.resnext import Form, ResNeXtBlock
from mlcv_bench.equivalence.evidence import State
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, user_code

Transplant = Callable[[dict[str, Tensor]], State]
"""Turns a state dict of the first network into one of the second."""

PER_BRANCH = {
    "grouped": (),
    "concat": ("conv1", "bn1", "conv2", "bn2"),
    "branches": ("conv1", "bn1", "conv2", "bn2", "conv3"),
}
"""The layers that each branch has for itself, by form; the block has the others."""

OUTPUT_CHANNELS, INPUT_CHANNELS = 0, 1


def _axis(layer: str) -> int:
    return INPUT_CHANNELS if layer == "conv3" else OUTPUT_CHANNELS


def join(state: State, form: Form, groups: int) -> dict[str, Tensor]:
    """Bring one block's state from `form` into the grouped form.

    Args:
        state: tensors by the block's own keys; weights, gradients or statistics, all or some.
        form: the form they come from.
        groups: the notes' G.

    Raises:
        ValueError: a branch lacks a tensor that another has, or branches counted different numbers of batches.

    """
    joined: dict[str, Tensor] = {}
    for key in state:
        if not key.startswith("branches."):
            joined[key] = state[key]
        elif key.startswith("branches.0."):
            name = key.removeprefix("branches.0.")
            if name.partition(".")[0] not in PER_BRANCH[form]:
                msg = f"the form {form} has no {name} in its branches"
                raise ValueError(msg)
            parts = [_part(state, branch, name) for branch in range(groups)]
            joined[name] = _stack(name, parts)
    return joined


def _part(state: State, branch: int, name: str) -> Tensor:
    key = f"branches.{branch}.{name}"
    if key not in state:
        msg = f"branch {branch} has no {name}, and branch 0 has"
        raise ValueError(msg)
    return state[key]


def _stack(name: str, parts: list[Tensor]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        if any(not torch.equal(part, parts[0]) for part in parts):
            msg = f"the branches counted different numbers of batches in {name}"
            raise ValueError(msg)
        return parts[0].clone()
    return torch.cat(parts, dim=_axis(name.partition(".")[0]))


def split(state: State, form: Form, groups: int) -> dict[str, Tensor]:
    """Bring one block's state from the grouped form into `form`: the inverse of `join`, to the last bit.

    Args:
        state: tensors by the grouped block's keys; weights, gradients or statistics, all or some.
        form: the form wanted.
        groups: the notes' G.

    """
    out: dict[str, Tensor] = {}
    for key, tensor in state.items():
        layer = key.partition(".")[0]
        if layer not in PER_BRANCH[form]:
            out[key] = tensor
        elif key.endswith("num_batches_tracked"):
            out |= {f"branches.{branch}.{key}": tensor.clone() for branch in range(groups)}
        else:
            parts = tensor.chunk(groups, dim=_axis(layer))
            out |= {f"branches.{branch}.{key}": part.contiguous() for branch, part in enumerate(parts)}
    return out


def convert(state: State, source: nn.Module, target: nn.Module) -> dict[str, Tensor]:
    """Bring a state from the layout of `source` into that of `target`: the same network, blocks in other forms.

    Args:
        state: tensors by the keys of `source`: its state dict, its gradients, its buffers.
        source: a block, or a network of blocks, in any form.
        target: the same in any form.

    Raises:
        UsageError: the two have not the same blocks.

    """
    blocks, wanted = _blocks(source), _blocks(target)
    if blocks.keys() != wanted.keys():
        name = min(blocks.keys() ^ wanted.keys()) or "the module itself"
        msg = f"only one of the two networks has a ResNeXt block at {name}; transplant between forms of one network"
        raise UsageError(msg)
    for name, block in blocks.items():
        if block.groups != wanted[name].groups:
            msg = (
                f"block {name or 'itself'} has {block.groups} groups in one network, {wanted[name].groups} in the other"
            )
            raise UsageError(msg)
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in blocks}
    out: dict[str, Tensor] = {}
    for key, tensor in state.items():
        owner = next((name for name in blocks if not name or key.startswith(f"{name}.")), None)
        if owner is None:
            out[key] = tensor
        else:
            parts[owner][key.removeprefix(f"{owner}.") if owner else key] = tensor
    for name, part in parts.items():
        block = blocks[name]
        converted = split(join(part, block.form, block.groups), wanted[name].form, block.groups)
        out |= {f"{name}.{key}" if name else key: tensor for key, tensor in converted.items()}
    return out


def _blocks(module: nn.Module) -> dict[str, ResNeXtBlock]:
    return {name: part for name, part in module.named_modules() if isinstance(part, ResNeXtBlock)}


def transplant(source: nn.Module, target: nn.Module) -> nn.Module:
    """Give `target` the weights and batch-norm statistics of `source`, another form of the same function.

    Args:
        source: a ResNeXt block, or a network of them, in any form.
        target: the same block or network in any form; a target on the meta device takes the source's type and device.

    Returns:
        `target`, which now computes the function of `source`, with tensors of its own.

    Raises:
        UsageError: the two are not forms of one network.

    """
    with torch.no_grad():
        state = {key: tensor.clone() for key, tensor in convert(source.state_dict(), source, target).items()}
    _load(state, target)
    return target


def _load(state: State, target: nn.Module) -> None:
    """Load a state; a target on the meta device takes its tensors."""
    wanted = target.state_dict()
    for key in [*wanted, *state]:
        if key not in state or key not in wanted or state[key].shape != wanted[key].shape:
            msg = f"the two networks are no forms of one: they differ in {key}"
            raise UsageError(msg)
    target.load_state_dict(dict(state), assign=any(tensor.is_meta for tensor in wanted.values()))


def carried(state: State, carry: Transplant) -> dict[str, Tensor]:
    """Apply the user's transplant to a copy of a state.

    Raises:
        UsageError: it raised, or gave no state dict.

    """
    try:
        with user_code():
            out = carry({key: tensor.detach().clone() for key, tensor in state.items()})
    except Exception as error:
        msg = f"the transplant raised {type(error).__name__}: {first_line(error)}"
        raise UsageError(msg) from error
    if not isinstance(out, Mapping) or not all(isinstance(tensor, Tensor) for tensor in out.values()):
        msg = "the transplant must return a state dict: a mapping of names to tensors"
        raise UsageError(msg)
    return dict(out)


def load(module: nn.Module, state: State, *, given: bool) -> None:
    """Load a state into the second network, or refuse it in one sentence.

    Raises:
        UsageError: a key is missing, unknown, or of another shape.

    """
    wanted = module.state_dict()
    advice = (
        ""
        if given
        else "; give --transplant module:function, which turns one state dict into the other, "
        "or --keep-weights to compare each with its own"
    )
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
            state[name] = torch.zeros_like(tensor.real)
    try:
        out = carried(state, carry)
    except UsageError:
        return False
    none = torch.zeros(0, dtype=torch.float64)  # a network without any state has nothing to concatenate
    values = torch.cat([none, *(tensor.flatten().to(torch.float64) for tensor in out.values())])
    values = values[values != 0].sort().values
    return torch.equal(values, torch.arange(1, start, dtype=torch.float64))


def same_names(first: nn.Module, second: nn.Module) -> bool:
    """Tell whether two networks have the same names in their states, each of the same shape."""
    one, other = ({key: value.shape for key, value in network.state_dict().items()} for network in (first, second))
    return one == other


@contextlib.contextmanager
def states_kept(*networks: nn.Module) -> Iterator[None]:
    """Put the networks' states back afterwards."""
    kept = [{key: value.clone() for key, value in network.state_dict().items()} for network in networks]
    try:
        yield
    finally:
        for network, state in zip(networks, kept, strict=True):
            network.load_state_dict(state)
