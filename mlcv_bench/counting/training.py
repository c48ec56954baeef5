"""What one training step costs: forward and backward MACs, and memory, without allocating any."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from mlcv_bench.architectures.outputs import tensors_in
from mlcv_bench.counting import isolation, operators, tracing
from mlcv_bench.counting.kernels import as_on_cpu
from mlcv_bench.counting.network import Network, give_shapes
from mlcv_bench.counting.request import slots_of
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, user_code
from mlcv_bench.records import row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST = 2**40
"""A batch past which memory is no limit."""

PROBE = 8
"""The second batch on the line from which the largest is guessed."""

NO_VALUES = ("meta tensor", "'Meta'", "register_meta", "fake impl", "meta device", "data-dependent", "data dependent")
"""Words in the errors of operators that cannot run without values."""

GRADIENTS = ("_backward", "_backward_data", "_backward_input", "_backward_weight")


@dataclass(frozen=True)
class TrainingCost:
    """What one training step of one network costs.

    `forward_macs` and `backward_macs` are those of convolutions, linear layers and matrix products of the whole batch;
    the gradient of the image is not computed and not counted. `weight_bytes` holds buffers too. `saved_bytes` are kept
    between forward and backward, the input and what the loss keeps included, weights not. `peak_bytes` is the most that
    is alive at once in an eager step: weights, buffers, optimizer state, activations and gradients; what a kernel takes
    for itself is not in it. `largest_batch` is the largest whose peak fits into `memory_bytes`; 0 if none does.
    """

    architecture: str
    family: str
    input: str
    batch: int
    optimizer: str
    params: int
    trainable_params: int
    forward_macs: int
    backward_macs: int
    training_macs: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    saved_bytes: int
    peak_bytes: int
    memory_bytes: int | None = None
    largest_batch: int | None = None
    largest_batch_bytes: int | None = None
    uncounted: tuple[str, ...] = field(default=(), metadata={"hidden": True})

    def row(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return row_of(self)


@dataclass
class TrainingStep:
    """What one training step showed."""

    forward_macs: int = 0
    backward_macs: int = 0
    saved_bytes: int = 0
    peak_bytes: int = 0
    uncounted: Counter[str] = field(default_factory=Counter)


class TrainingMode(tracing.WatchingMode):
    """Watches every operator of a forward and a backward pass."""

    def __init__(self, step: TrainingStep, live: tracing.LiveBytes) -> None:
        """Write MACs into `step`, and what is alive into `live`."""
        super().__init__(live)
        self.step = step
        self.backward = False

    def note(self, name: str, args: Sequence[Any], out: Any, work: operators.Work | None) -> None:  # noqa: ANN401 - operators return anything
        """Add the operator's MACs to those of its pass."""
        del args, out
        if work is None:
            # The gradients of element-wise operators have no MACs; anything else unknown is reported.
            if not name.endswith(GRADIENTS) and not name.startswith("nll_loss"):
                self.step.uncounted[name] += 1
        elif self.backward:
            self.step.backward_macs += work.macs
        else:
            self.step.forward_macs += work.macs


def loss_of(output: Any) -> torch.Tensor:  # noqa: ANN401 - networks return anything
    """Return the loss of a training step: cross entropy on every table of class scores, the sum of anything else.

    Raises:
        UsageError: no output depends on a weight.

    """
    losses = [
        functional.cross_entropy(tensor, torch.zeros(tensor.shape[0], dtype=torch.int64, device=tensor.device))
        if tensor.dim() == 2  # noqa: PLR2004 - (N, classes)
        else tensor.sum()
        for tensor in map(real, tensors_in(output))
        if tensor.requires_grad and tensor.is_floating_point()
    ]
    if not losses:
        raise UsageError("no output depends on a weight, so there is nothing to train; name a network with weights")
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total


def real(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of complex numbers as one of their parts."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def step_of(network: Network, module: nn.Module, batch: int, device: str = "meta") -> TrainingStep:
    """Run one forward and backward pass in training mode and return what it showed.

    Args:
        network: names the inputs.
        module: the copy to run, with weights on `device`; its gradients are dropped afterwards.
        batch: images in the batch.
        device: "meta", or "cpu" with real values.

    """
    found = TrainingStep()
    inputs = network.inputs(module, batch, device)
    give_shapes(module, inputs, device)
    live = tracing.LiveBytes.of(module, inputs)
    own = tracing.storages_of([*module.parameters(), *module.buffers()])
    saved: dict[int, int] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        """Note a storage that is not a weight's; autograd keeps the tensor, so no other takes its place meanwhile."""
        if tracing.key_of(tensor) not in own:
            saved[tracing.key_of(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    mode = TrainingMode(found, live)
    module.train()
    with torch.enable_grad(), torch.device(device), as_on_cpu(), isolation.nothing_compiled(), mode:
        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            loss = loss_of(inputs.into(module))
        found.saved_bytes = sum(saved.values())
        mode.backward = True
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it without types
    for parameter in module.parameters():
        parameter.grad = None
    found.peak_bytes = live.peak
    return found


def trained(network: Network, module: nn.Module, batch: int) -> TrainingStep:
    """Run a step on the meta device, and say in one sentence why it cannot be trained, if so."""
    try:
        with user_code():
            return step_of(network, module, batch)
    except UsageError:
        raise
    except Exception as error:
        needs_values = isinstance(error, NotImplementedError) or any(words in str(error) for words in NO_VALUES)
        why = "its operators depend on values" if needs_values else f"{type(error).__name__}"
        raise UsageError(
            f"{network.request.name} cannot be trained on the meta device with {network.request.input_text}, batch "
            f"{batch}: {why}: {first_line(error)}; `flops` without --training counts its inference"
        ) from error


def training_cost(
    network: Network, batch: int = 1, *, optimizer: str = "sgd", memory: int | None = None
) -> TrainingCost:
    """Count one training step.

    Args:
        network: what to train; left as it is.
        batch: images in the batch.
        optimizer: a rule by name; its slots are kept for every trainable weight.
        memory: bytes to fit into; None asks for no largest batch.

    Raises:
        UsageError: unknown optimizer, one whose state is no copy of the weights, or a network that cannot be trained.

    """
    slots = slots_of(optimizer)
    with isolation.left_alone():
        module = network.on_meta()
        if isolation.is_script(module):
            raise UsageError(
                f"{network.request.name} is TorchScript, whose training cannot be watched; name its source"
            )
        step = trained(network, module, batch)
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        gradients = sum(weight.nbytes for weight in weights)
        held = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
        fixed = held + slots * gradients
        cost = TrainingCost(
            architecture=network.request.label,
            family=network.request.family,
            input=network.request.input_text,
            batch=batch,
            optimizer=optimizer,
            params=sum(weight.numel() for weight in module.parameters()),
            trainable_params=sum(weight.numel() for weight in weights),
            forward_macs=step.forward_macs,
            backward_macs=step.backward_macs,
            training_macs=step.forward_macs + step.backward_macs,
            weight_bytes=held,
            gradient_bytes=gradients,
            optimizer_bytes=slots * gradients,
            saved_bytes=step.saved_bytes,
            peak_bytes=fixed + step.peak_bytes,
            uncounted=tracing.listed(step.uncounted),
        )
        if memory is None:
            return cost

        @functools.cache
        def peak(images: int) -> int:
            return fixed + trained(network, module, images).peak_bytes

        best = largest(peak, memory)
        most = peak(best) if best else None
        return replace(cost, memory_bytes=memory, largest_batch=best, largest_batch_bytes=most)


def largest(peak: Callable[[int], int], memory: int) -> int:
    """Return the largest batch whose peak fits: guessed on the line through two batches, then checked itself.

    The peak is all but a line in the batch, so that a guess and its neighbour decide; where it is not, the interval
    between a batch that fits and one that does not shrinks all the same.
    """
    low, high = 2, 0
    fits = peak(low)
    if fits > memory:
        try:
            return int(peak(1) <= memory)
        except UsageError:  # batch norm cannot train on one image of one pixel
            return 0
    slope = max((peak(PROBE) - fits) / (PROBE - low), 1.0)
    while not high or high - low > 1:
        guess = low + max(1, int((memory - fits) / slope))
        guess = min(guess, high - 1) if high else min(guess, MOST)
        reached = peak(guess)
        if reached > memory:
            # Too far: step back by what it is over.
            high = guess
            slope = max(slope, (reached - fits) / (high - low))
        else:
            if guess == MOST:
                return guess
            slope = max((reached - fits) / (guess - low), 1.0)
            low, fits = guess, reached
    return low
