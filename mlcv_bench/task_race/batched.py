"""Two ways to take the same training step: one model by its optimizer, or many copies of it as one batched model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from mlcv_bench.optimizers.rule import Rule


@dataclass(frozen=True)
class Step:
    """What one step showed, each of shape (lanes,); norms are None where nobody asked."""

    losses: Tensor
    correct: Tensor
    gradient_norms: Tensor | None
    update_norms: Tensor | None
    evaluations: int = 1
    """Of loss and gradient: an optimizer with a closure may take many a step."""


class Engine(Protocol):
    """Trains `lanes` models at once, each on its own samples."""

    lanes: int

    def step(self, images: Tensor, labels: Tensor, factor: float, *, norms: bool) -> Step:
        """Take one step on images (lanes, B, C, H, W) and labels (lanes, B), the rate multiplied by `factor`."""
        ...

    def score(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed loss and the correct answers of each lane on images (lanes, N, ...) and labels."""
        ...


class BatchedEngine:
    """Copies of one model, their weights side by side in one tensor, trained as one batched model.

    The gradient of the sum of all losses holds every copy's own gradient, as no copy's loss depends on another's
    weights. The rule runs on the whole tensor; the learning rate is a column of it.
    """

    def __init__(self, models: Sequence[nn.Module], rule: Rule, rates: Sequence[float], **settings: float) -> None:
        """Take one model a lane, with its first weights, and one rate a lane; other settings are common."""
        self.lanes = len(models)
        self._skeleton = models[0]
        named = list(models[0].named_parameters())
        self._names = [name for name, _ in named]
        self._shapes = [parameter.shape for _, parameter in named]
        self._sizes = [parameter.numel() for _, parameter in named]
        self._weights = torch.stack(
            [torch.cat([p.detach().reshape(-1) for p in model.parameters()]) for model in models]
        )
        self._slots = [torch.zeros_like(self._weights) for _ in rule.slots]
        self._rule = rule
        self._rates = torch.tensor([[rate] for rate in rates], dtype=torch.float64)
        self._settings = settings
        self._steps = 0

    def _hyper(self, factor: float) -> dict[str, float | Tensor]:
        # Rates are scaled in double precision and rounded once, as a plain number would be.
        return {**self._settings, "lr": (self._rates * factor).to(self._weights.dtype)}

    def _logits(self, weights: Tensor, images: Tensor) -> Tensor:
        parts = torch.split(weights, self._sizes, dim=1)
        state = {
            name: part.view(self.lanes, *shape)
            for name, part, shape in zip(self._names, parts, self._shapes, strict=True)
        }
        forward = vmap(lambda own, batch: functional_call(self._skeleton, own, (batch,)))
        logits: Tensor = forward(state, images)
        return logits

    def step(self, images: Tensor, labels: Tensor, factor: float, *, norms: bool) -> Step:
        """Take one step of every lane."""
        hyper = self._hyper(factor)
        place = self._weights
        if self._rule.query is not None:
            known = dict(zip(self._rule.slots, self._slots, strict=True)) | hyper
            place = self._rule.query(place, *(known[name] for name in self._rule.query_names()))
        place = place.detach().requires_grad_()
        losses, correct = losses_of(self._logits(place, images), labels)
        (gradient,) = torch.autograd.grad(losses.sum(), place)
        self._steps += 1
        with torch.no_grad():
            result = self._rule.update(self._weights, gradient, self._steps, *self._slots, **hyper)
            updated, *self._slots = result if isinstance(result, tuple) else (result,)
            gradient_norms = update_norms = None
            if norms:
                gradient_norms = torch.linalg.vector_norm(gradient, dim=1)
                update_norms = torch.linalg.vector_norm(updated - self._weights, dim=1)
            self._weights = updated
        return Step(losses.detach(), correct, gradient_norms, update_norms)

    @torch.no_grad()
    def score(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return each lane's summed loss and correct answers."""
        losses, correct = losses_of(self._logits(self._weights, images), labels)
        return losses * labels.shape[1], correct


def losses_of(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return each lane's mean cross-entropy and count of correct answers; logits (lanes, B, K), labels (lanes, B)."""
    lanes, batch, classes = logits.shape
    each = functional.cross_entropy(logits.reshape(-1, classes), labels.reshape(-1), reduction="none")
    losses = each.view(lanes, batch).mean(dim=1)
    correct = (logits.detach().argmax(dim=2) == labels).sum(dim=1)
    return losses, correct
