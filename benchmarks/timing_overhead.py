"""What the harness itself adds to a call: an empty call, and a tiny network of about 1 ms against a bare loop."""

from __future__ import annotations

import statistics
import time

from harness import machine, record

from mlcv_bench.timing import openmp

openmp.settle()

import torch  # noqa: E402 - the wait policy must be set first
from torch import nn  # noqa: E402 - as above

from mlcv_bench.timing.blocks import LocalWorkload  # noqa: E402 - as above
from mlcv_bench.timing.clock import ProcessorClock  # noqa: E402 - as above
from mlcv_bench.timing.contention import SystemLedger  # noqa: E402 - as above

ROUNDS = 60


def workload(call) -> LocalWorkload:
    """Return the call as the harness times it."""
    return LocalWorkload(call, clock=ProcessorClock(), ledger=SystemLedger(), threads=1, context=torch.inference_mode)


def bare(call, count: int) -> float:
    """Return the seconds a call takes in a loop that reads the clock only outside."""
    with torch.inference_mode():
        call()
        start = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - start) / count


def main() -> None:
    """Measure both and write them down."""
    torch.set_num_threads(1)
    empty = workload(lambda: None)
    empty.warm_up(0.2)
    empties = [empty.block(0.05).median_s for _ in range(ROUNDS)]
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)).eval()
    images = torch.randn(1, 3, 56, 56)

    def call():
        return model(images)

    size = bare(call, 50)
    timed = workload(call)
    timed.warm_up(0.5)
    ratios, mine = [], []
    for turn in range(ROUNDS):
        # The two take turns, first and second place alternating; the mean call of a block stands against the loop's.
        sides = {}
        for who in ("harness", "bare") if turn % 2 else ("bare", "harness"):
            if who == "bare":
                sides[who] = bare(call, max(1, round(0.05 / size)))
            else:
                calls = timed.block(0.05).calls_s
                sides[who] = statistics.fmean(calls)
        ratios.append(sides["harness"] / sides["bare"])
        mine.append(sides["harness"])
    low, middle, high = statistics.quantiles(ratios, n=4)
    nothing = statistics.median(empties)
    lines = [
        "# What the harness adds to a call",
        "",
        f"Machine: {machine()}, one thread.",
        "",
        f"- An empty call is reported as {nothing * 1e9:.0f} ns, which is {nothing / 1e-3:.4%} of a 1 ms pass.",
        f"- Two convolutions, {statistics.median(mine) * 1e3:.3f} ms: the harness's mean call over a bare loop's,",
        f"  {ROUNDS} turns: median ratio {middle:.4f} (quartiles {low:.4f} .. {high:.4f}).",
    ]
    record("timing_overhead", lines)


if __name__ == "__main__":
    main()
