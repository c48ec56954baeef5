"""A model with its optimizer, which takes training steps: many copies as one batched model, or one by itself.

One alone has a rule on flat buffers, a class of torch.optim, or Newton's method.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, vmap
from torch.nn import functional
from torch.optim import Optimizer

from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, user_code
from mlcv_bench.optimizers.rule import Rule
from mlcv_bench.optimizers.schedule import ScheduledRates, clip_factor
from mlcv_bench.optimizers.third_party import ThirdPartyOptimizer, asks_for_closure, needs_closure
from mlcv_bench.optimizers.torch_optimizer import RuleOptimizer
from mlcv_bench.task_race.optimizers import TaskOptimizer


@dataclass(frozen=True)
class StepMeasurements:
    """What one step showed, each of shape (lanes,); norms, before clipping, are None where nobody asked."""

    losses: Tensor
    correct: Tensor
    gradient_norms: Tensor | None
    update_norms: Tensor | None
    evaluations: int = 1
    """Of loss and gradient: an optimizer with a closure may take many a step."""


class BatchedLearner:
    """Copies of one model, their weights side by side in one tensor, trained as one batched model.

    The gradient of the sum of all losses holds every copy's own gradient, as no copy's loss depends on another's
    weights. The rule runs on the whole tensor; the learning rate is a column of it.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        rule: Rule,
        rates: Sequence[float],
        clip_norm: float | None = None,
        **settings: float,
    ) -> None:
        """Take one model a lane, with its first weights, and one rate a lane; other settings are common."""
        self._skeleton = models[0]
        self._shapes = {name: parameter.shape for name, parameter in models[0].named_parameters()}
        self._weights = torch.stack(
            [torch.cat([p.detach().reshape(-1) for p in model.parameters()]) for model in models]
        )
        self._slots = [torch.zeros_like(self._weights) for _ in rule.slots]
        self._rule = rule
        self._rates = torch.tensor([[rate] for rate in rates], dtype=torch.float64, device=self._weights.device)
        self._settings = settings
        self._clip_norm = clip_norm
        self._steps = 0

    def _logits(self, weights: Tensor, images: Tensor) -> Tensor:
        parts = torch.split(weights, [shape.numel() for shape in self._shapes.values()], dim=1)
        state = {
            name: part.view(len(weights), *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        forward = vmap(lambda own, batch: functional_call(self._skeleton, own, (batch,)))
        logits: Tensor = forward(state, images)
        return logits

    def step(self, images: Tensor, labels: Tensor, factor: float, *, norms: bool) -> StepMeasurements:
        """Take one step on images (lanes, B, C, H, W) and labels (lanes, B), the rate multiplied by `factor`."""
        # Rates are scaled in double precision and rounded once, as a plain number would be.
        hyper = {**self._settings, "lr": (self._rates * factor).to(self._weights.dtype)}
        known = dict(zip(self._rule.slots, self._slots, strict=True)) | hyper
        place = self._rule.gradient_point(self._weights, known).detach().requires_grad_()
        losses, right = losses_of(self._logits(place, images), labels)
        (gradient,) = torch.autograd.grad(losses.sum(), place)
        self._steps += 1
        with torch.no_grad():
            gradient_norms = torch.linalg.vector_norm(gradient, dim=1) if norms or self._clip_norm else None
            if self._clip_norm is not None and gradient_norms is not None:
                gradient = gradient * clip_factor(gradient_norms, self._clip_norm)[:, None]
            updated, *self._slots = self._rule.step(self._weights, gradient, self._steps, *self._slots, **hyper)
            update_norms = torch.linalg.vector_norm(updated - self._weights, dim=1) if norms else None
            self._weights = updated
        return StepMeasurements(losses.detach(), right.sum(dim=1), gradient_norms, update_norms)

    @torch.no_grad()
    def score(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return each lane's summed loss, and which answers are right (lanes, N), on images (lanes, N, ...)."""
        losses, right = losses_of(self._logits(self._weights, images), labels)
        return losses * labels.shape[1], right

    def states(self) -> Tensor:
        """Return each lane's weights, (lanes, K), where the rule's own iterates stand."""
        return self._weights


def losses_of(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return each lane's mean cross-entropy, and which answers are right (lanes, B); logits (lanes, B, K)."""
    lanes, batch, classes = logits.shape
    each = functional.cross_entropy(logits.reshape(-1, classes), labels.reshape(-1), reduction="none")
    losses = each.view(lanes, batch).mean(dim=1)
    return losses, logits.detach().argmax(dim=2) == labels


def make_optimizer(model: nn.Module, optimizer: TaskOptimizer, settings: Mapping[str, Any]) -> Optimizer:
    """Return the optimizer of a model's parameters.

    Raises:
        UsageError: a class of a third party does not take these settings.

    """
    if isinstance(optimizer.own, ThirdPartyOptimizer):
        return optimizer.own.build(model.parameters(), settings)
    own: Optimizer = RuleOptimizer(model.parameters(), optimizer.own, **settings)
    return own


def check_step(optimizer: TaskOptimizer, model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Take one real step with an optimizer that is not ours, so that one that cannot train is refused early.

    Args:
        optimizer: the optimizer.
        model: a network of its own for this step; its weights change.
        images: (B, C, H, W).
        labels: (B,).

    Raises:
        UsageError: it cannot be built for these parameters, or its step fails.

    """
    rate = {} if optimizer.default_rate is None else {"lr": optimizer.default_rate}
    learner = SingleLearner(model, optimizer, {**optimizer.settings, **rate})
    try:
        with user_code():
            learner.step(images[None], labels[None], 1.0, norms=True)
            learner.score(images[None], labels[None])
    except Exception as error:
        if isinstance(error, SingularHessianError):
            way_out = ""
        elif optimizer.rule is None:
            way_out = "; leave it out"
        else:
            way_out = "; write it with mlcv_bench.functions (sign, maximum ...)"
        raise UsageError(f"{optimizer.label} cannot train this model: {first_line(error)}{way_out}") from error


class SingleLearner:
    """One model, one optimizer: the loop that every tutorial has."""

    def __init__(
        self, model: nn.Module, optimizer: TaskOptimizer, settings: Mapping[str, Any], clip_norm: float | None = None
    ) -> None:
        """Take a model with its first weights, and its optimizer with every setting, the rate among them."""
        self._model = model
        self._clip_norm = clip_norm
        self._optimizer: Any = (
            NewtonOptimizer(model, optimizer.rule, settings, clip_norm)
            if optimizer.rule is not None and optimizer.rule.needs == "hessian"
            else make_optimizer(model, optimizer, settings)
        )
        self._needs_closure = needs_closure(self._optimizer.step)
        own = optimizer.rule is not None or self._needs_closure

        def build() -> tuple[Optimizer, list[nn.Parameter]]:
            alike = copy.deepcopy(model)
            return make_optimizer(alike, optimizer, settings), list(alike.parameters())

        self._asks_for_closure = not own and asks_for_closure(build)
        self._rates = ScheduledRates(self._optimizer)

    def _switch(self, mode: Literal["train", "eval"]) -> None:
        """Put model and optimizer into one mode; schedule-free optimizers keep other weights in each."""
        getattr(self._model, mode)()
        if callable(own := getattr(self._optimizer, mode, None)):
            own()

    def _at_iterates(self) -> contextlib.AbstractContextManager[None]:
        """Put the weights where the optimizer's iterates are: Nesterov keeps them at the look-ahead in between."""
        return self._optimizer.at_iterates() if isinstance(self._optimizer, RuleOptimizer) else contextlib.nullcontext()

    def _weights(self) -> Tensor:
        with self._at_iterates():
            return torch.cat([parameter.detach().reshape(-1) for parameter in self._model.parameters()])

    def _clip(self) -> Tensor:
        """Clip the gradient where that is asked for, and return the norm it had before."""
        slopes = [parameter.grad for parameter in self._model.parameters() if parameter.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.cat([slope.reshape(-1) for slope in slopes]))
        if self._clip_norm is not None:
            for slope in slopes:
                slope.mul_(clip_factor(norm, self._clip_norm))
        return norm

    def step(self, images: Tensor, labels: Tensor, factor: float, *, norms: bool) -> StepMeasurements:
        """Take one step on images (1, B, ...) and labels (1, B)."""
        self._rates.scale(factor)
        batch, answers = images[0], labels[0]
        self._switch("train")
        shown: dict[str, Tensor] = {}
        evaluations = 0

        def closure() -> Tensor:
            self._optimizer.zero_grad()
            logits = self._model(batch)
            loss = functional.cross_entropy(logits, answers)
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            nonlocal evaluations
            evaluations += 1
            # A closure may be called again at other weights: what is shown belongs to the step's beginning.
            first = evaluations == 1
            if first:
                shown["loss"], shown["correct"] = loss.detach(), (logits.detach().argmax(dim=1) == answers).sum()
            if self._clip_norm is not None or (norms and first):
                shown.setdefault("gradient", self._clip())
            return loss.detach()

        before = self._weights() if norms else None
        if isinstance(self._optimizer, NewtonOptimizer):
            self._optimizer.batch = (batch, answers)
        if self._needs_closure:
            self._optimizer.step(closure)
        else:
            closure()
            self._optimizer.step(*([closure] if self._asks_for_closure else []))
        update = None if before is None else torch.linalg.vector_norm(self._weights() - before)[None]
        gradient = shown["gradient"][None] if norms else None
        return StepMeasurements(shown["loss"][None], shown["correct"][None], gradient, update, evaluations)

    @torch.no_grad()
    def score(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed loss (1,) and which answers are right (1, N), batch norm and dropout as in inference."""
        self._switch("eval")
        with self._at_iterates():
            logits = self._model(images[0])
        loss = functional.cross_entropy(logits, labels[0], reduction="sum")
        return loss[None], (logits.argmax(dim=1) == labels[0])[None]

    def states(self) -> Tensor:
        """Return what the model computes with in inference, as `state_of` has it, (1, K + S)."""
        self._switch("eval")
        with self._at_iterates():
            return state_of(self._model)[None]


def state_of(model: nn.Module) -> Tensor:
    """Return all K parameters of a model in one vector, then its S running statistics, which no optimizer changes."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in named_state(model).values()])


def named_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of `state_of` by their names."""
    statistics = ((name, buffer) for name, buffer in model.named_buffers() if buffer.is_floating_point())
    return {**dict(model.named_parameters()), **dict(statistics)}


Learner = BatchedLearner | SingleLearner


class SingularHessianError(ArithmeticError):
    """Newton's system has no solution; the message says how damping gives it one."""


class NewtonOptimizer:
    """Newton's method of the notes' section 1.2 on a small model: the Hessian of the mini-batch's loss, solved."""

    def __init__(
        self, model: nn.Module, rule: Rule, settings: Mapping[str, float], clip_norm: float | None = None
    ) -> None:
        """Take the whole model; its weights become one vector of k entries, its Hessian k x k numbers."""
        self._clip_norm = clip_norm
        self.param_groups: list[dict[str, Any]] = [dict(settings)]
        self.batch: tuple[Tensor, Tensor] | None = None
        self._model, self._rule = model, rule
        self._named = dict(model.named_parameters())
        self._sizes = [parameter.numel() for parameter in self._named.values()]
        self._steps = 0

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._model.zero_grad()

    def _loss(self, flat: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        parts = zip(self._named.items(), torch.split(flat, self._sizes), strict=True)
        state = {name: part.view(parameter.shape) for (name, parameter), part in parts}
        return functional.cross_entropy(functional_call(self._model, state, (images,)), labels)

    def step(self, closure: Any) -> Tensor:  # noqa: ANN401 - as torch.optim.Optimizer has it
        """Take one step on `batch`.

        Raises:
            SingularHessianError: the Hessian plus damping is singular.

        """
        if self.batch is None:
            raise ValueError("set `batch` before the step: Newton's method differentiates the loss twice")
        loss: Tensor = closure()
        images, labels = self.batch
        # Curvatures of a classifier span many decades: double precision keeps the small ones.
        flat = torch.cat([parameter.detach().reshape(-1) for parameter in self._named.values()]).double()
        self._model.double()
        try:
            curvature = hessian(self._loss)(flat, images.double(), labels)
            slope = grad(self._loss)(flat, images.double(), labels)
        finally:
            self._model.float()
        if self._clip_norm is not None:
            slope *= clip_factor(torch.linalg.vector_norm(slope), self._clip_norm)
        settings = self.param_groups[0]
        damped = curvature + settings.get("damping", 0.0) * torch.eye(len(flat), dtype=flat.dtype, device=flat.device)
        direction, singular = torch.linalg.solve_ex(damped, slope)
        if int(singular) or not bool(torch.isfinite(direction).all()):
            name = self._rule.name
            way_out = (
                f"give damping, as in {name}:damping=0.1"
                if "damping" in self._rule.defaults
                else f"give {name} a setting damping=0.1, which is added to the diagonal of the Hessian"
            )
            raise SingularHessianError(f"the Hessian of the mini-batch is singular; {way_out}")
        self._steps += 1
        updated = self._rule.update(flat, direction, self._steps, **settings)
        with torch.no_grad():
            parts = torch.split(updated.float(), self._sizes)
            for parameter, part in zip(self._named.values(), parts, strict=True):
                parameter.copy_(part.view(parameter.shape))
        return loss
