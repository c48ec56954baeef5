"""The points of a race's paths, as CSV: one row an optimizer, protocol and step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcv_bench.records import plain_text

if TYPE_CHECKING:
    from mlcv_bench.surface_race.race import Race


def paths_csv(race: Race) -> str:
    """Return `optimizer,protocol,step,point,loss` for the first start of every optimizer and protocol."""
    lines = ["optimizer,protocol,step,point,loss"]
    for (optimizer, protocol), trace in race.traces.items():
        # A label with several settings holds a comma.
        name = f'"{optimizer}"' if "," in optimizer else optimizer
        lines += [
            f"{name},{protocol},{step},{plain_text(trace.point(step))},{plain_text(value)}"
            for step, value in enumerate(trace.values)
        ]
    return "\n".join(lines) + "\n"
