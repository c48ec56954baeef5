"""Any rule as a true torch.optim.Optimizer, one flat buffer for the parameters of a group, dtype and device."""

from __future__ import annotations

import contextlib
import functools
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers import compiled_rule
from mlcv_bench.optimizers.rule import Rule, find
from mlcv_bench.torch_private import copy_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mlcv_bench.optimizers.kernels import FlatKernel

WORTH_COMPILING = 1 << 18
"""Numbers from which on one compiled pass on the CPU beats several by torch, whose temporaries then leave the cache."""


class FlatBuffer:
    """The parameters of one group that share dtype and device, as views of one tensor, with their slots.

    A step is then one pass over memory, however many parameters there are.
    """

    def __init__(self, rule: Rule, kept: tuple[str, ...], parameters: list[torch.Tensor]) -> None:
        """Move the parameters into one buffer, with one more buffer for each name in `kept`; their values stay."""
        self.rule = rule
        self.parameters = parameters
        first = parameters[0]
        self.offsets = [0, *itertools.accumulate(parameter.numel() for parameter in parameters)]
        self.values = torch.empty(self.offsets[-1], dtype=first.dtype, device=first.device)
        self.gradients = torch.zeros_like(self.values)
        self.slots = {name: torch.zeros_like(self.values) for name in kept}
        self._views: list[torch.Tensor] = []
        self.bind()
        self.strides = [view.stride() for view in self._views]

    @functools.cached_property
    def kernel(self) -> FlatKernel | None:
        """The compiled pass over this buffer, or None where plain tensor arithmetic does the step."""
        known = self.values.device.type == "cpu" and self.values.dtype in (torch.float32, torch.float64)
        lines = compiled_rule.write(self.rule, 1) if known and self.values.numel() >= WORTH_COMPILING else None
        if lines is None:
            return None
        from mlcv_bench.optimizers.kernels import FlatKernel  # noqa: PLC0415 - numba loads late

        return FlatKernel(self.rule, lines, str(self.values.dtype).removeprefix("torch."), self.offsets)

    def bind(self) -> None:
        """Copy the parameters' values in and make each parameter a view of the buffer."""
        self._views = [self.view(self.values, i) for i in range(len(self.parameters))]
        for parameter, view in zip(self.parameters, self._views, strict=True):
            view.copy_(parameter.data)
            parameter.data = view

    @property
    def bound(self) -> bool:
        """Whether every parameter still is a view: `module.to(...)` and the like give it other memory."""
        return all(
            parameter.data_ptr() == view.data_ptr()
            for parameter, view in zip(self.parameters, self._views, strict=True)
        )

    def view(self, buffer: torch.Tensor, i: int) -> torch.Tensor:
        """Return the part of a buffer that belongs to parameter `i`, in its shape and memory layout."""
        parameter = self.parameters[i]
        part = buffer[self.offsets[i] : self.offsets[i + 1]]
        if parameter.is_contiguous() or not parameter.is_contiguous(memory_format=torch.channels_last):
            return part.view(parameter.shape)
        return part.as_strided(parameter.shape, parameter.stride())


class RuleOptimizer(torch.optim.Optimizer):
    """A rule of the notes, driving torch parameters.

    As in torch.optim, a parameter without a gradient is left alone. A rule with a look-ahead (nesterov) keeps the
    parameters at the look-ahead, so that backward-then-step is exact at any schedule of rates (notes 1.3, last remark);
    inside `with optimizer.at_iterates():` they stand at the iterates behind it.
    """

    def __init__(
        self, params: Iterable[torch.Tensor] | Iterable[dict[str, Any]], rule: str | Rule, **settings: float
    ) -> None:
        """Build the optimizer.

        Args:
            params: tensors or parameter groups; a group may set any hyperparameter of the rule.
            rule: a name with settings as on the command line, or a Rule.
            **settings: hyperparameters, over those in the name.

        Raises:
            UsageError: an unknown rule or hyperparameter, a value outside its limits, or a rule that needs a Hessian.

        """
        found, given = find(rule) if isinstance(rule, str) else (rule, {})
        if found.needs == "hessian":
            msg = (
                f"{found.name} needs the Hessian, k x k numbers for k parameters and k^3 operations to solve with; "
                "choose a rule that needs the gradient alone"
            )
            raise UsageError(msg)
        self.rule = found
        self._flats: dict[int, list[FlatBuffer]] = {}
        super().__init__(params, found.settings({**given, **settings}))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its hyperparameters are checked against the rule's limits."""
        self.rule.settings({name: value for name, value in param_group.items() if name in self.rule.defaults})
        super().add_param_group(param_group)

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of what is kept for every parameter: the rule's slots, and the iterate behind a look-ahead."""
        return (*self.rule.slots, "iterate") if self.rule.lookahead else self.rule.slots

    def flats(self, group: dict[str, Any]) -> list[FlatBuffer]:
        """Return a group's buffers, made at the first step and made again where a parameter has moved away."""
        number = id(group["params"][0]) if group["params"] else 0
        flats = self._flats.get(number)
        if flats is not None and sum(len(flat.parameters) for flat in flats) == len(group["params"]):
            for flat in flats:
                if not flat.bound and all(p.device == flat.values.device for p in flat.parameters):
                    flat.bind()
            if all(flat.bound for flat in flats):
                return flats
        alike: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
        for parameter in group["params"]:
            alike.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        flats = [FlatBuffer(self.rule, self.kept, parameters) for parameters in alike.values()]
        self._flats[number] = flats
        for flat in flats:
            self._adopt_state(flat)
        return flats

    def _adopt_state(self, flat: FlatBuffer) -> None:
        """Make every parameter's state a view of the buffers, keeping what was there (a loaded state_dict, say)."""
        for i, parameter in enumerate(flat.parameters):
            state = self.state[parameter]
            for name in self.kept:
                view = flat.view(flat.slots[name], i)
                old = state.get(name)
                if old is not None:
                    view.copy_(old)
                elif name == "iterate":
                    view.copy_(parameter.data)
                state[name] = view
            state.setdefault("step", 0)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; the next step copies it into fresh buffers."""
        super().load_state_dict(state_dict)
        self._flats.clear()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401 - the closure's loss
        """Take one step; a closure is called first, with gradients on, and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            hyper = {name: group[name] for name in self.rule.defaults}
            for flat in self.flats(group):
                gradients = [parameter.grad for parameter in flat.parameters]
                steps = [self._counted(p, gradient) for p, gradient in zip(flat.parameters, gradients, strict=True)]
                if flat.kernel is not None:
                    self._update_compiled(flat, flat.kernel, gradients, steps, hyper)
                else:
                    self._update(flat, gradients, steps, hyper)
        return loss

    def _counted(self, parameter: torch.Tensor, gradient: torch.Tensor | None) -> int:
        """Return the number of a parameter's step, 0 where it has no gradient."""
        if gradient is None:
            return 0
        if gradient.is_sparse:
            raise UsageError(f"{self.rule.name} takes dense gradients; build the embedding with sparse=False")
        state = self.state[parameter]
        state["step"] += 1
        return int(state["step"])

    def _update_compiled(
        self,
        flat: FlatBuffer,
        kernel: FlatKernel,
        gradients: Sequence[torch.Tensor | None],
        steps: Sequence[int],
        hyper: dict[str, float],
    ) -> None:
        """Apply the rule to the whole buffer in one compiled pass that reads the gradients where they lie.

        Copied into one buffer first, each would cross memory twice more; Adam's whole step crosses it seven times.
        """
        addresses = np.zeros(len(gradients), np.int64)
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                alike = gradient.dtype == flat.values.dtype and gradient.stride() == flat.strides[i]
                readable = gradient if alike else flat.view(flat.gradients, i).copy_(gradient)
                addresses[i] = readable.data_ptr()
        slots = [flat.slots[slot] for slot in self.rule.slots]
        buffers = [flat.slots["iterate"], *slots, flat.values] if self.rule.lookahead else [flat.values, *slots]
        kernel.step(addresses, steps, hyper, [buffer.numpy() for buffer in buffers], torch.get_num_threads())

    def _update(
        self,
        flat: FlatBuffer,
        gradients: Sequence[torch.Tensor | None],
        steps: Sequence[int],
        hyper: dict[str, float],
    ) -> None:
        """Apply the rule to the stretches of the buffer whose parameters have a gradient and the same step."""
        rule = self.rule
        views = [flat.view(flat.gradients, i) for i, t in enumerate(steps) if t]
        if views:
            copy_each(views, [gradient for gradient in gradients if gradient is not None])
        for t, alike in itertools.groupby(range(len(steps)), steps.__getitem__):
            if t == 0:
                continue
            own = list(alike)
            stretch = slice(flat.offsets[own[0]], flat.offsets[own[-1] + 1])
            values = flat.values[stretch]
            slots = [flat.slots[slot][stretch] for slot in rule.slots]
            x = flat.slots["iterate"][stretch] if rule.lookahead else values
            moved, *kept = rule.step(x, flat.gradients[stretch], t, *slots, **hyper)
            x.copy_(moved)
            for slot, new in zip(slots, kept, strict=True):
                slot.copy_(new)
            if rule.lookahead:
                values.copy_(rule.gradient_point(x, dict(zip(rule.slots, slots, strict=True)) | hyper))

    @contextlib.contextmanager
    @torch.no_grad()
    def at_iterates(self) -> Iterator[None]:
        """Put the parameters where the rule's own iterates stand, for an evaluation, and back."""
        flats = [flat for group in self.param_groups for flat in self.flats(group)] if self.rule.lookahead else []
        ahead = [flat.values.clone() for flat in flats]
        for flat in flats:
            flat.values.copy_(flat.slots["iterate"])
        try:
            yield
        finally:
            for flat, values in zip(flats, ahead, strict=True):
                flat.values.copy_(values)
