"""The states of two networks: the first one's carried over into the second, loaded, kept and put back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, foreign_code

State = Mapping[str, Tensor]
Transplant = Callable[[dict[str, Tensor]], State]
"""Turns a state dict of the first network into one of the second."""


def carried(state: State, carry: Transplant) -> dict[str, Tensor]:
    """Apply the user's transplant to a copy of a state.

    Raises:
        UsageError: it raised, or gave no state dict.

    """
    try:
        with foreign_code():
            out = carry({key: tensor.detach().clone() for key, tensor in state.items()})
    except Exception as error:
        msg = f"the transplant raised {type(error).__name__}: {first_line(error)}"
        raise UsageError(msg) from error
    if not isinstance(out, Mapping) or not all(isinstance(tensor, Tensor) for tensor in out.values()):
        msg = "the transplant must return a state dict: a mapping of names to tensors"
        raise UsageError(msg)
    return dict(out)


def load(module: nn.Module, state: State, *, given: bool) -> None:
    """Load a state into the second network, or say in one sentence what does not fit.

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
