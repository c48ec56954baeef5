"""`count` and `count_training`: what a network costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from mlcv_bench.api.calls import check_subject, items, public
from mlcv_bench.api.results import Reported
from mlcv_bench.architectures.inputs import InputLike, read_inputs
from mlcv_bench.architectures.request import Request
from mlcv_bench.counting import cost as costs
from mlcv_bench.counting.network import Network, observe
from mlcv_bench.counting.request import parse_memory
from mlcv_bench.counting.training import TrainingCost, training_cost
from mlcv_bench.errors import UsageError
from mlcv_bench.records import shape_text
from mlcv_bench.report.costs import cost_report, training_report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from mlcv_bench.records import Report


class CountedCost(Reported, costs.Cost):
    """The cost of an inference batch, with its operators as a frame too."""

    def report(self) -> Report:
        """Return the cost as a report: the row, the element-wise work apart, what was not counted."""
        return cost_report([self], [f"{self.architecture} {self.options}".rstrip()])

    @property
    def operators_frame(self) -> pd.DataFrame:
        """Every operator call of the forward pass, in order: where it ran, shapes, MACs, element-wise work."""
        import pandas as pd  # noqa: PLC0415 - as in `frame`

        columns = ["module", "operator", "input", "output", "macs", "kind", "operations", "bias", "activations"]
        calls = self.trace.calls if self.trace is not None else []
        rows = [
            (
                *(call.module, call.operator, shape_text(call.input), shape_text(call.output), call.work.macs),
                *(call.work.kind if call.work.operations else None, call.work.operations, call.work.bias),
                call.work.activations,
            )
            for call in calls
        ]
        return pd.DataFrame(rows, columns=columns)


class CountedTraining(Reported, TrainingCost):
    """The cost of a training step."""

    def report(self) -> Report:
        """Return the cost as a report: MACs of the step, what takes memory, the largest batch if one was asked for."""
        return training_report([self])


@public
def count(
    subject: str | Request | nn.Module | Callable[..., nn.Module],
    *,
    input: InputLike | None = None,  # noqa: A002 - the word of the command line
    batch: int = 1,
    tensors: str | Sequence[str] = (),
    **options: Any,  # noqa: ANN401 - the builder's own options
) -> CountedCost:
    """Count what a network costs, without allocating its weights.

    Args:
        subject: an architecture's name, a specification, a function or class that builds a network, or any module,
            which is left exactly as it is.
        input: shape of one image, as (channels, height, width) or "3x224x224", by default the architecture's own; or
            example tensors: one, several by position in a list, several (or lists of them) by name in a dictionary.
        batch: images in the batch; tensors are repeated so often along their first axis.
        tensors: what the network takes, where that is not one image: ["tokens:int64:1x128", ...].
        **options: keyword options of the architecture's builder, such as form="branches".

    Returns:
        The cost: numbers as attributes, `.frame` as pandas, a table in a notebook.

    Raises:
        UsageError: unknown name or option, or a network that cannot take the input.

    """
    check_batch(batch)
    network = network_of(subject, input, tensors, options)
    return CountedCost.of(costs.cost_of(observe(network, batch), network.request, batch))


@public
def count_training(
    subject: str | nn.Module | Callable[..., nn.Module],
    *,
    input: InputLike | None = None,  # noqa: A002 - as above
    batch: int = 1,
    tensors: str | Sequence[str] = (),
    optimizer: str = "sgd",
    memory: str | int | None = None,
    **options: Any,  # noqa: ANN401 - as above
) -> CountedTraining:
    """Count a training step: forward and backward MACs, and what takes memory, without allocating any.

    Args:
        subject: as in `count`.
        input: as in `count`.
        batch: as in `count`.
        tensors: as in `count`.
        optimizer: the rule whose state takes memory.
        memory: bytes, or text as 16GB; asks for the largest batch that fits.
        **options: as in `count`.

    Raises:
        UsageError: unknown name, option or optimizer, or a network that cannot be trained.

    """
    limit = parse_memory(memory) if memory is not None else None
    check_batch(batch)
    network = network_of(subject, input, tensors, options)
    return CountedTraining.of(training_cost(network, batch, optimizer=optimizer, memory=limit))


def network_of(
    subject: str | Request | nn.Module | Callable[..., nn.Module],
    given: InputLike | None,
    tensors: str | Sequence[str],
    options: Mapping[str, Any],
) -> Network:
    """Return the network that a function is asked about, with the `input` and `tensors` that it was given for it.

    Raises:
        UsageError: it is none, has an unknown name or option, or its input is no shape and no example.

    """
    check_subject(subject)
    inputs = read_inputs(given, items(tensors))
    return Network.of(subject, input=inputs.input, tensors=inputs.tensors, options=options)


def check_batch(batch: object) -> None:
    """Refuse a batch that holds no image.

    Raises:
        UsageError: it is no whole number from 1 on.

    """
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise UsageError(f"batch is a whole number from 1 on, not {batch!r}")
