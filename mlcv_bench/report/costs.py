"""Costs as people read them: the tables of `flops`, `params`, `flops --training` and `width`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlcv_bench.counting.cost import Cost, count
from mlcv_bench.counting.published import PAPER_WIDTHS, block_macs_per_pixel, matching_width
from mlcv_bench.counting.training import TrainingCost
from mlcv_bench.records import Column, Report, Table, columns_of, filled, fitted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlcv_bench.architectures.request import Request
    from mlcv_bench.report.beside import Beside

MEBI = 2.0**20
NAME = Column("label", "architecture", justify="left")
INPUT = Column("input", "input")
OPTIMIZER = Column("optimizer", "optimizer", justify="left")

COST = (
    Column("params", "parameters", "M", ",.2f", 1e6),
    Column("published_params", "published", "M"),
    Column("params_difference", "diff", "%", "+.2f", 0.01),
    Column("macs", "MACs", "G", ",.3f", 1e9),
    Column("published_macs", "published", "G"),
    Column("macs_difference", "diff", "%", "+.2f", 0.01),
    Column("flops", "FLOPs", "G", ",.3f", 1e9),
    Column("activations", "activations", "M", ",.2f", 1e6),
    Column("peak_activation_bytes", "peak", "MiB", ",.2f", MEBI),
)
ELEMENTWISE = (
    Column("norm_ops", "norm", "M", ",.2f", 1e6),
    Column("bias_ops", "bias", "M", ",.2f", 1e6),
    Column("activation_ops", "activation", "M", ",.2f", 1e6),
    Column("pooling_ops", "pooling", "M", ",.2f", 1e6),
    Column("addition_ops", "addition", "M", ",.2f", 1e6),
    Column("operators", "operators", "", ",d"),
)
PARAMETERS = (
    Column("params", "parameters", "", ",d"),
    Column("trainable_params", "trainable", "", ",d"),
    Column("buffers", "buffers", "", ",d"),
    Column("weight_bytes", "parameters", "MiB", ",.2f", MEBI),
    Column("buffer_bytes", "buffers", "MiB", ",.3f", MEBI),
    Column("published_params", "published", "M"),
    Column("params_difference", "diff", "%", "+.2f", 0.01),
)


def shown(cost: Cost, label: str) -> dict[str, Any]:
    """Return a cost as a row for tables: its fields, its label, published figures as printed, and how far it is off."""
    row = cost.row() | {"label": label, "params_difference": None, "macs_difference": None}
    for quantity, printed, counted, unit, decimals in (
        ("params", cost.printed.params, cost.params, 10**6, 2),
        ("macs", cost.printed.macs, cost.macs // cost.batch, 10**9, 3),
    ):
        if printed is not None:
            digits = len(str(unit // printed.digit)) - 1
            row[f"published_{quantity}"] = f"{printed.value / unit:,.{min(digits, decimals)}f}"
            row[f"{quantity}_difference"] = printed.difference(counted)
    return row


def sources(costs: Sequence[Cost]) -> str:
    """Name where the published figures come from, each source once, and which figures nobody prints."""
    found: dict[str, dict[str, None]] = {}
    for cost in costs:
        for source in cost.published_source.split("; ") if cost.published_source else ():
            found.setdefault(source, {})[cost.architecture] = None
    texts = []
    if found:
        named = "; ".join(f"{source} ({', '.join(names)})" for source, names in found.items())
        texts.append(f"Published: {named}; diff is 0 where the count rounds to the printed digits or is cut off there.")
    recounts = [
        f"{words} of {', '.join(names)}"
        for quantity, words in (("params", "parameters"), ("macs", "MACs"))
        if (names := dict.fromkeys(cost.architecture for cost in costs if is_recount(cost, quantity)))
    ]
    if recounts:
        texts.append(f"Printed nowhere that we know, recounted from the definition: {'; '.join(recounts)}.")
    return " ".join(texts)


def is_recount(cost: Cost, quantity: str) -> bool:
    """Tell whether no source prints a figure that we recounted from the network's definition."""
    return bool(getattr(cost, f"recounted_{quantity}") and not getattr(cost, f"published_{quantity}"))


def uncounted(costs: Sequence[Cost | TrainingCost], figures: str = "figures") -> list[str]:
    """Say of every network which operators no rule counts."""
    notes = (not_counted(cost.architecture, cost.uncounted, figures) for cost in costs if cost.uncounted)
    return list(dict.fromkeys(notes))


def not_counted(name: str, operators: Iterable[str], figures: str = "figures") -> str:
    """Say which operators of a network no rule counts."""
    return f"{name}: not counted: {', '.join(operators)}; the {figures} leave these operators out"


def told_apart(costs: Sequence[Cost | TrainingCost], labels: Sequence[str]) -> list[str]:
    """Return the labels, with the input and the batch where one network comes with several: a sweep."""
    inputs = several((label, cost.input) for cost, label in zip(costs, labels, strict=True))
    batches = several((label, cost.batch) for cost, label in zip(costs, labels, strict=True))
    apart = []
    for cost, label in zip(costs, labels, strict=True):
        words = [label]
        if label in inputs:
            words.append(cost.input)
        if label in batches:
            words.append(f"batch {cost.batch}")
        apart.append(" ".join(words))
    return apart


def several(pairs: Iterable[tuple[str, object]]) -> set[str]:
    """Return the names that come with more than one thing."""
    names = [name for name, _ in set(pairs)]
    return {name for name in names if names.count(name) > 1}


def leading(costs: Sequence[Cost | TrainingCost], labels: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns that name a row: the input too, where rows differ in it and no label says so."""
    differ = len({cost.input for cost in costs}) > 1
    swept = several((label, cost.input) for cost, label in zip(costs, labels, strict=True))
    return (NAME, INPUT) if differ and not swept else (NAME,)


def circumstances(costs: Sequence[Cost | TrainingCost]) -> str:
    """Say for a title what all rows share: ` at 3x224x224, batch 1`."""
    inputs, batches = {cost.input for cost in costs}, {cost.batch for cost in costs}
    at = f" at {next(iter(inputs))}" if len(inputs) == 1 else ""
    return f"{at}, batch {next(iter(batches))}" if len(batches) == 1 else at


def _of_costs(
    costs: Sequence[Cost], apart: Sequence[str], tables: Sequence[Table], beside: Sequence[Beside] = ()
) -> Report:
    warnings = [*(note for cost in costs for note in cost.notes), *uncounted(costs)]
    warnings += [warning for one in beside for warning in one.warnings]
    runs = [added(cost.row(), beside, place) for place, cost in enumerate(costs)]
    details = {key: value for one in beside for key, value in one.details.items()}
    details["modules"] = {label: cost.modules for label, cost in zip(apart, costs, strict=True)}
    return Report("cost", columns_of(Cost), runs, tables, warnings=warnings, details=details)


def added(row: dict[str, Any], beside: Sequence[Beside], place: int) -> dict[str, Any]:
    """Return a row with what stands beside it, at the end; what has a name of ours stays ours."""
    more = {key: value for one in beside for key, value in one.rows[place].items()}
    return row | more | row


def cost_report(costs: Sequence[Cost], labels: Sequence[str], beside: Sequence[Beside] = ()) -> Report:
    """Return what `flops` shows: the cost, with what stands beside it, then the element-wise work apart."""
    apart = told_apart(costs, labels)
    rows = [added(shown(cost, apart[place]), beside, place) for place, cost in enumerate(costs)]
    more = [column for one in beside for column in one.columns]
    columns = (*leading(costs, labels), *more, *fitted(filled(COST, rows), rows))
    caption = (
        "MACs: convolutions, linear layers, matrix products, of the whole batch; FLOPs = 2 x MACs. "
        f"Peak: activations alive at once, input included. {sources(costs)}"
    )
    caption = " ".join([*(one.caption for one in beside), caption])
    tables = [
        Table(f"Cost{circumstances(costs)}", columns, rows, caption),
        Table(
            "Element-wise work, not in the MACs",
            (NAME, *fitted(ELEMENTWISE, rows)),
            rows,
            "Operations an element: batch norm 2, other norms 5, bias 1, activation 1, softmax 5, pooling 1 a window "
            "element, addition 1.",
        ),
    ]
    return _of_costs(costs, apart, tables, beside)


def parameter_report(costs: Sequence[Cost], labels: Sequence[str]) -> Report:
    """Return what `params` shows: the same rows, parameters and buffers first."""
    apart = told_apart(costs, labels)
    rows = [shown(cost, label) for cost, label in zip(costs, apart, strict=True)]
    table = Table("Parameters", (NAME, *fitted(filled(PARAMETERS, rows), rows)), rows, sources(costs))
    return _of_costs(costs, apart, [table])


STEP = (
    Column("forward_macs", "forward", "G MACs", ",.3f", 1e9),
    Column("backward_macs", "backward", "G MACs", ",.3f", 1e9),
    Column("training_macs", "step", "G MACs", ",.3f", 1e9),
    Column("weight_bytes", "weights", "MiB", ",.1f", MEBI),
    Column("gradient_bytes", "grads", "MiB", ",.1f", MEBI),
    Column("optimizer_bytes", "state", "MiB", ",.1f", MEBI),
    Column("saved_bytes", "saved", "MiB", ",.1f", MEBI),
    Column("peak_bytes", "peak", "MiB", ",.1f", MEBI),
)
LARGEST = (
    Column("largest_batch", "largest", "batch", ",d"),
    Column("largest_batch_bytes", "its peak", "GiB", ",.2f", 2.0**30),
)


def training_report(costs: Sequence[TrainingCost]) -> Report:
    """Return what `flops --training` shows: MACs of a step, what takes memory, and the largest batch that fits."""
    names = [cost.architecture for cost in costs]
    rows = [cost.row() | {"label": label} for cost, label in zip(costs, told_apart(costs, names), strict=True)]
    limited = costs[0].memory_bytes is not None
    rules = list(dict.fromkeys(cost.optimizer for cost in costs))
    keeper = rules[0] if len(rules) == 1 else "the optimizer"
    caption = (
        f"State: what {keeper} keeps. Saved: kept between forward and backward, input and loss included. "
        "Peak: the most alive at once, with weights, buffers, state and gradients; what kernels take for themselves is "
        "not in it. The gradient of the image is not computed."
    )
    if limited and costs[0].memory_bytes is not None:
        caption += f" Largest batch: its peak fits into {costs[0].memory_bytes / 2**30:,.2f} GiB."
    naming = (*leading(costs, names), *([OPTIMIZER] if len(rules) > 1 else []))
    columns = (*naming, *fitted((*STEP, *(LARGEST if limited else ())), rows))
    title = f"A training step{circumstances(costs)}"
    table = Table(title, columns, rows, caption)
    runs = [cost.row() for cost in costs]
    return Report("training", columns_of(TrainingCost), runs, [table], warnings=uncounted(costs, "MACs"))


WIDTHS = (
    Column("groups", "G", format="d"),
    Column("root", "root d", format=".4f"),
    Column("width", "rounded d", format="d"),
    Column("paper_width", "paper's d", format="d"),
    Column("block_macs_per_pixel", "block", "MACs/pixel", ",d"),
    Column("architecture", "network", justify="left"),
    Column("params", "parameters", "M", ",.3f", 1e6),
    Column("macs", "MACs", "G", ",.4f", 1e9),
    Column("macs_difference", "diff", "%", "+.2f", 0.01),
)


def width_report(reference: Request, depth: int, groups: Sequence[int]) -> Report:
    """Solve for d at each number of groups, and count the ResNeXt that results against `reference`."""
    base = count(reference)
    rows = []
    for number in groups:
        root = matching_width(number)
        rounded = max(1, round(root))
        cost = count(f"resnext{depth}_{number}x{rounded}d", input=reference.input)
        rows.append(
            {
                "match": base.architecture,
                "groups": number,
                "root": root,
                "width": rounded,
                "paper_width": PAPER_WIDTHS.get(number),
                "block_macs_per_pixel": block_macs_per_pixel(number, rounded),
                "architecture": cost.architecture,
                "params": cost.params,
                "macs": cost.macs,
                "macs_difference": cost.macs / base.macs - 1,
            }
        )
    caption = (
        f"9 G d^2 + 2 C G d = 9 d0^2 + 2 C d0 with C = 256, d0 = 64. Against {base.architecture}: "
        f"{base.params / 1e6:,.3f} M parameters, {base.macs / 1e9:,.4f} G MACs. The equation matches a block without"
        " projection; whole networks differ a little."
    )
    keys = ("match", *(column.key for column in WIDTHS))
    return Report("width", keys, rows, [Table("Equal cost, more groups", WIDTHS, rows, caption)])
