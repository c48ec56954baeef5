"""Classifiers for small images: logistic regression, a perceptron, a small CNN, the catalogue's, any specification."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.build import build, load, options_of, parse_set
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, label_of, user_code
from mlcv_bench.random_streams import key
from mlcv_bench.records import counted
from mlcv_bench.tasks.catalog import check_model
from mlcv_bench.tasks.datasets import WEIGHTS

HIDDEN = 64
Shape = tuple[int, int, int]
_GLOBAL_GENERATOR = threading.Lock()


def logistic(shape: Shape, classes: int) -> nn.Module:
    """Multinomial logistic regression: convex. (N, C, H, W) -> (N, classes)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


def mlp(shape: Shape, classes: int) -> nn.Module:
    """One hidden layer of 64 ReLU units. (N, C, H, W) -> (N, classes)."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(shape), HIDDEN), nn.ReLU(inplace=False), nn.Linear(HIDDEN, classes)
    )


def cnn(shape: Shape, classes: int) -> nn.Module:
    """Two 3x3 convolutions of 16 and 32 channels, each followed by 2x2 max pooling. (N, C, H, W) -> (N, classes)."""
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), classes),
    )


OWN: dict[str, Callable[[Shape, int], nn.Module]] = {"logistic": logistic, "mlp": mlp, "cnn": cnn}


CLASSES = re.compile(
    r"(num|n|nr|nb|number_of)?_?(class(es)?|labels?|categories)|(num|n)_?out(puts?)?|out(put)?_(features|dim|size)"
)
CHANNELS = ("in_channels", "in_chans", "input_channels", "num_channels")
"""What arguments are called that count a network's outputs, and the channels of its images."""


def build_model(
    named: str | Callable[..., Any],
    shape: Shape,
    classes: int,
    seed: int,
    settings: Iterable[tuple[str, str]] = (),
) -> nn.Module:
    """Build a model for images of `shape`, its first weights drawn from the seed, in training mode.

    The builder gets the number of classes and of channels under the names that it has for them; `settings` are texts
    for its other arguments, as `--set` gives them.

    Raises:
        UsageError: there is no such model, it is built already, or it does not take such images.

    """
    name = label_of(named)
    if isinstance(named, str):
        check_model(named)
    # Builders draw from torch's one global generator: two threads of a cluster's worker must not share it.
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, WEIGHTS) >> 1)
        if isinstance(named, str) and name in OWN:
            model, remark = OWN[name](shape, classes), ""
        else:
            model, remark = _network(named, shape, classes, settings)
    _check_output(model, name, shape, classes, remark)
    return model.train()


def _network(
    named: str | Callable[..., Any], shape: Shape, classes: int, settings: Iterable[tuple[str, str]]
) -> tuple[nn.Module, str]:
    """Build a network of the catalogue or of a user's, and say why it may have another number of outputs."""
    name = label_of(named)
    built_in = isinstance(named, str) and catalog.is_built_in(named)
    if not built_in and isinstance(load(named) if isinstance(named, str) else named, nn.Module):
        raise UsageError(
            f"{name} is built already, and every run begins with weights of its own; give a class or a "
            "function that builds it"
        )
    known = catalog.options(name) if built_in else options_of(named)
    whole = [option for option, what in known.items() if what.annotation in {"int", "int | None", "Any"}]
    count = next((option for option in whole if CLASSES.fullmatch(option)), None)
    channels = next((option for option in CHANNELS if option in known), None)
    options = parse_set(named, dict(settings))
    for option, value in ((count, classes), (channels, shape[0])):
        if option is not None:
            options.setdefault(option, value)
    others = ", ".join(option for option in known if option != "**")
    remark = f"; none of its arguments ({others}) is called num_classes" if count is None else ""
    return build(named, **options), remark


def _check_output(model: nn.Module, name: str, shape: Shape, classes: int, remark: str) -> None:
    """Refuse a model that does not turn two images into two rows of logits; `remark` says what may be why."""
    words = "x".join(map(str, shape))
    training = model.training
    model.eval()
    try:
        with user_code(), torch.no_grad():
            logits = model(torch.zeros(2, *shape))
    except Exception as error:
        raise UsageError(f"{name} does not take images of {words}: {first_line(error)}; try another --model") from error
    finally:
        model.train(training)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (2, classes):
        found = "x".join(map(str, logits.shape)) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(f"{name} returns {found} for two images of {words}, not 2x{classes} logits{remark}")


def check_last_batch(model: nn.Module, name: str, images: Tensor, batch_size: int) -> None:
    """Refuse a model that cannot train on the short batch that ends an epoch: batch norm on one image cannot.

    The statistics that a forward pass leaves in `model` are those of this batch: it is not for training.

    Raises:
        UsageError: its forward pass in training fails.

    """
    try:
        with user_code(), torch.no_grad():
            model.train()(images)
    except Exception as error:
        way_out = "add --drop-last, or try another" if len(images) < batch_size else "try another"
        raise UsageError(
            f"{name} cannot train on the last batch of an epoch, {counted(len(images), 'image')}: {first_line(error)}; "
            f"{way_out} --batch-size"
        ) from error


def batchable(model: nn.Module) -> bool:
    """Tell whether many copies of a model train faster as one: dense layers do, convolutions on a CPU do not.

    A batched convolution becomes a grouped one, and a batch norm keeps statistics that copies must not share.
    """
    dense = (nn.Sequential, nn.Flatten, nn.Linear, nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.Identity)
    return all(type(module) in dense for module in model.modules())
