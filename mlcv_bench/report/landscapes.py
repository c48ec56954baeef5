"""From a loss landscape to a report: a row a point of each plane and a step of each path; for people a row a path."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from mlcv_bench.landscapes.landscape import Landscape, PathOnPlane, Plane
from mlcv_bench.optimizers.schedule import STEP_COLUMNS, step_columns, title_part
from mlcv_bench.records import Column, Report, Table, counted
from mlcv_bench.report.task_races import failures

COLUMNS = (
    *("task", "model", "direction_a", "direction_b", "a", "b", "loss"),
    *("optimizer", "lr", "batch_size", "seed", "step", "distance", "status", "reason"),
    *STEP_COLUMNS,
)
TABLE = (
    Column("optimizer", "optimizer", justify="left"),
    Column("lr", "rate", format=".3g"),
    Column("loss", "end loss", format=".2e"),
    Column("place", "ends at", justify="left"),
    Column("from_centre", "from centre", format=".3g"),
    Column("distance", "off plane", format=".3g"),
    Column("kept", "kept", "%", ".1f", 0.01),
    Column("outcome", "outcome", justify="left"),
)


def landscape_report(found: Landscape) -> Report:
    """Return the report of a landscape."""
    notes = [images_text(found), *([STATISTICS] if found.statistics else [])]
    notes += [f"{one.optimizer} was skipped: {one.reason}." for one in found.results if one.status == "skipped"]
    if not found.planes:
        notes.append("no path came to an end, so that there is no plane to show")
    if found.interrupted:
        notes.append("interrupted: only what was finished is shown")
    return Report(
        study="landscape",
        columns=COLUMNS,
        runs=[*(row for plane in found.planes for row in plane_rows(found, plane)), *unfinished_rows(found)],
        tables=[table(found, plane) for plane in found.planes],
        notes=notes,
        warnings=[*found.warnings, *failures(found.results)],
        details={
            "setup": asdict(found.problem.setup),
            "weights": found.problem.weights,
            "images": found.images,
            "centre": found.centre,
            "planes": [
                {
                    "directions": plane.names,
                    "variance": plane.variance,
                    "resolution": found.request.resolution,
                    "a": [float(plane.a[0]), float(plane.a[-1])],
                    "b": [float(plane.b[0]), float(plane.b[-1])],
                    "kept": {own.path.result.optimizer: own.kept for own in plane.paths},
                }
                for plane in found.planes
            ],
            "together": found.together,
            "interrupted": found.interrupted,
        },
    )


STATISTICS = (
    "Batch norm uses running statistics: on a plane those of the centre, at a step of a path those of that step."
)


def images_text(found: Landscape) -> str:
    """Say what the loss is taken on."""
    of = f"{found.images} of the {found.training}" if found.images < found.training else f"the {found.training}"
    return (
        f"Loss: mean cross-entropy on {of} training images of seed {found.request.seed}, the model as in inference; "
        f"{found.problem.images}."
    )


def shared_row(found: Landscape) -> dict[str, Any]:
    """Return what all rows have in common."""
    setup = found.problem.setup
    return dict.fromkeys(COLUMNS) | {
        "task": setup.task,
        "model": setup.label,
        "batch_size": setup.batch_size,
        "seed": found.request.seed,
        **step_columns(setup.rate_schedule, setup.clip_norm),
    }


def plane_rows(found: Landscape, plane: Plane) -> Iterator[dict[str, Any]]:
    """Yield a row a point of a plane, row by row from the lowest b; then a row a step of each path."""
    one, other = plane.names
    shared = shared_row(found) | {"direction_a": one, "direction_b": other, "status": "done"}
    for b, losses in zip(plane.b.tolist(), plane.losses.tolist(), strict=True):
        for a, loss in zip(plane.a.tolist(), losses, strict=True):
            if not math.isnan(loss) or not found.interrupted:
                yield shared | {"a": a, "b": b, "loss": known(loss)}
    for own in plane.paths:
        result = own.path.result
        row = shared | {"optimizer": result.optimizer, "lr": result.lr}
        if own.path.diverged and result.run is not None:
            row["reason"] = f"diverged at step {result.run.diverged_at}"
        columns = (own.path.steps, own.places.tolist(), own.path.losses.tolist(), own.distances.tolist())
        for step, (a, b), loss, distance in zip(*columns, strict=True):
            yield row | {"step": step, "a": a, "b": b, "loss": known(loss), "distance": distance}


def unfinished_rows(found: Landscape) -> Iterator[dict[str, Any]]:
    """Yield a row an optimizer that has no path, with the reason."""
    for result in found.results:
        if result.run is None:
            yield shared_row(found) | {
                "optimizer": result.optimizer,
                "lr": result.lr,
                "status": result.status,
                "reason": result.reason,
            }


def known(value: float) -> float | None:
    """Return a finite number; None for any other."""
    return value if math.isfinite(value) else None


def table(found: Landscape, plane: Plane) -> Table:
    """Return what people read of a plane: a row an optimizer, the lowest loss first."""
    rows = sorted((path_row(own) for own in plane.paths), key=lambda row: (row["loss"] is None, row["loss"]))
    rows += [
        {"optimizer": result.optimizer, "outcome": result.status} for result in found.results if result.run is None
    ]
    setup = found.problem.setup
    title = (
        f"{setup.task}, {setup.label} of {found.problem.weights} weights: {WORDS[plane.directions]}, "
        f"{counted(found.problem.budget, 'step')}"
        + title_part(setup.rate_schedule, setup.clip_norm)
        + (f", on {setup.device}" if setup.device else "")
    )
    return Table(title, TABLE, rows, caption(found, plane))


WORDS = {
    "principal": "the plane of the paths' first two principal directions",
    "random": "a plane of two random directions",
}


def path_row(own: PathOnPlane) -> dict[str, Any]:
    """Return an optimizer's row."""
    result = own.path.result
    run = result.run
    row: dict[str, Any] = {"optimizer": result.optimizer, "lr": result.lr, "outcome": result.outcome, "loss": None}
    if own.path.diverged:
        return row | {"outcome": f"diverged at {run.diverged_at if run else ''}"}
    a, b = own.places[-1].tolist()
    return row | {
        "loss": known(float(own.path.losses[-1])),
        "place": f"({a:.3g}, {b:.3g})",
        "distance": float(own.distances[-1]),
        "from_centre": float(own.from_centre[-1]),
        "kept": own.kept,
    }


def caption(found: Landscape, plane: Plane) -> str:
    """Say what the plane and the columns mean."""
    parts = [f"Centre (0, 0): the end of {found.centre}, whose loss is the lowest."]
    if plane.variance is None:
        parts.append(
            "Directions: random, each filter as long as the centre's (Li et al. 2018), biases and norms not moved: at "
            "1 a filter has moved by its own length."
        )
    else:
        one, other = plane.variance
        parts.append(f"The directions hold {one:.1%} and {other:.1%} of the variance of all paths.")
    parts += [
        "From centre, off plane: the end's Euclidean distances.",
        "Kept: the share of a path's squared distances from the centre that lies in the plane; the rest is not seen.",
        "Converged: met the target of validation accuracy; budget: did not.",
    ]
    return " ".join(parts)
