"""Any rule as a true torch.optim.Optimizer, one flat buffer for the parameters of a group, dtype and device."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.rule import Rule, find
from mlcv_bench.torch_private import copy_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mlcv_bench.optimizers.kernels import FlatKernel

WORTH_COMPILING = 1 << 18
"""Numbers from which on one compiled pass on the CPU beats several by torch, whose temporaries then leave the cache."""


class FlatBuffer:
    """The parameters of one group that share dtype and device, as views of one tensor, and their slots beside them.

    A step is then one pass over memory, however many parameters there are.
    """

    def __init__(self, parameters: list[torch.Tensor], slots: tuple[str, ...]) -> None:
        """Move the parameters into one buffer; their values stay."""
        self.parameters = parameters
        first = parameters[0]
        self.offsets = [0]
        for parameter in parameters:
            self.offsets.append(self.offsets[-1] + parameter.numel())
        self.values = torch.empty(self.offsets[-1], dtype=first.dtype, device=first.device)
        self.gradients = torch.zeros_like(self.values)
        self.slots = {slot: torch.zeros_like(self.values) for slot in slots}
        self._views: list[torch.Tensor] = []
        self._kernel: FlatKernel | None = None
        self._asked = False
        self.bind()
        self.strides = [view.stride() for view in self._views]
        self.arrays = (
            {name: tensor.numpy() for name, tensor in ({"values": self.values} | self.slots).items()}
            if self.compilable
            else {}
        )

    @property
    def compilable(self) -> bool:
        """Whether a compiled pass is possible and worth loading the compiler for."""
        known = self.values.device.type == "cpu" and self.values.dtype in (torch.float32, torch.float64)
        return known and self.values.numel() >= WORTH_COMPILING

    def kernel(self, rule: Rule) -> FlatKernel | None:
        """Return the compiled pass of a rule over this buffer, or None where plain tensor arithmetic does the step."""
        if self.compilable and not self._asked:
            from mlcv_bench.optimizers.kernels import FlatKernel, source  # noqa: PLC0415 - numba loads late

            self._asked = True
            dtype = str(self.values.dtype).removeprefix("torch.")
            if source(rule, dtype) is not None:
                self._kernel = FlatKernel(rule, dtype, self.offsets)
        return self._kernel

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


def refuse_sparse(gradient: torch.Tensor, rule: Rule) -> None:
    """Refuse a gradient that no rule can read."""
    if gradient.is_sparse:
        msg = f"{rule.name} takes dense gradients; build the embedding with sparse=False"
        raise UsageError(msg)


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
        flats = [FlatBuffer(parameters, self.kept) for parameters in alike.values()]
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
                kernel = flat.kernel(self.rule)
                if kernel is not None:
                    self._update_compiled(flat, kernel, hyper)
                    continue
                for begin, end, t in self._gather(flat):
                    self._update(flat, begin, end, t, hyper)
        return loss

    def _gather(self, flat: FlatBuffer) -> list[tuple[int, int, int]]:
        """Copy the gradients into the buffer; return the stretches that have one, each with its number of the step."""
        stretches: list[tuple[int, int, int]] = []
        views, gradients = [], []
        for i, parameter in enumerate(flat.parameters):
            if parameter.grad is None:
                continue
            refuse_sparse(parameter.grad, self.rule)
            views.append(flat.view(flat.gradients, i))
            gradients.append(parameter.grad)
            state = self.state[parameter]
            state["step"] += 1
            begin, end, t = flat.offsets[i], flat.offsets[i + 1], state["step"]
            if stretches and stretches[-1][1:] == (begin, t):
                begin = stretches.pop()[0]
            stretches.append((begin, end, t))
        if views:
            copy_each(views, gradients)
        return stretches

    def _update_compiled(self, flat: FlatBuffer, kernel: FlatKernel, hyper: dict[str, float]) -> None:
        """Apply the rule to the whole buffer in one compiled pass that reads the gradients where they lie."""
        addresses, steps = [], []
        for i, parameter in enumerate(flat.parameters):
            gradient, state = parameter.grad, self.state[parameter]
            if gradient is None:
                addresses.append(0)
                steps.append(1)
                continue
            refuse_sparse(gradient, self.rule)
            if gradient.dtype != flat.values.dtype or gradient.stride() != flat.strides[i]:
                # In another layout than the buffer's: copied into it.
                place = flat.view(flat.gradients, i)
                gradient = place.copy_(gradient)
            state["step"] += 1
            addresses.append(gradient.data_ptr())
            steps.append(state["step"])
        slots = [flat.arrays[slot] for slot in self.rule.slots]
        arrays = (
            [flat.arrays["iterate"], *slots, flat.arrays["values"]]
            if self.rule.lookahead
            else [flat.arrays["values"], *slots]
        )
        kernel.step(np.array(addresses, np.int64), steps, hyper, arrays, torch.get_num_threads())

    def _update(self, flat: FlatBuffer, begin: int, end: int, t: int, hyper: dict[str, float]) -> None:
        """Apply the rule to one stretch of the buffer."""
        rule = self.rule
        values = flat.values[begin:end]
        slots = [flat.slots[slot][begin:end] for slot in rule.slots]
        x = flat.slots["iterate"][begin:end] if rule.lookahead else values
        result = rule.update(x, flat.gradients[begin:end], t, *slots, **hyper)
        moved, *kept = result if isinstance(result, tuple) else (result,)
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
