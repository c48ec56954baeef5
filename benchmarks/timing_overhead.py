"""What the harness itself adds to a call: an empty call, and a tiny network of about 1 ms against a bare loop."""

from __future__ import annotations

import statistics
import time

from harness import machine, record

from mlcv_bench.timing.machine import set_wait_policy

set_wait_policy("passive")

import torch  # noqa: E402 - the wait policy must be set first
from torch import nn  # noqa: E402 - as above

from mlcv_bench.statistics import median_interval  # noqa: E402 - as above
from mlcv_bench.timing.blocks import LocalWorkload  # noqa: E402 - as above
from mlcv_bench.timing.clock import Clock  # noqa: E402 - as above
from mlcv_bench.timing.contention import Ledger  # noqa: E402 - as above

ROUNDS = 1000


def workload(call) -> LocalWorkload:
    """Return the call as the harness times it."""
    return LocalWorkload(call, clock=Clock(), ledger=Ledger(), threads=1, context=torch.inference_mode)


def bare(call, count: int) -> float:
    """Return the processor seconds a call takes in a loop that reads the clock only outside."""
    with torch.inference_mode():
        call()
        start = time.process_time_ns()
        for _ in range(count):
            call()
        return (time.process_time_ns() - start) * 1e-9 / count


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

    timed = workload(call)
    timed.warm_up(0.5)
    ratios, mine, count = [], [], len(timed.block(0.05).calls_s)
    for turn in range(ROUNDS):
        # The two take turns, first and second place alternating, on processor time, with equally many calls.
        sides = {}
        for who in ("harness", "bare") if turn % 2 else ("bare", "harness"):
            if who == "bare":
                sides[who] = bare(call, count)
            else:
                block = timed.block(0.05)
                sides[who], count = block.cpu_per_call_s, len(block.calls_s)
        ratios.append(sides["harness"] / sides["bare"])
        mine.append(sides["harness"])
    ratio = median_interval(ratios)
    nothing = statistics.median(empties)
    lines = [
        "# What the harness adds to a call",
        "",
        f"Machine: {machine()}, one thread.",
        "",
        f"- An empty call is reported as {nothing * 1e9:.0f} ns, which is {nothing / 1e-3:.4%} of a 1 ms pass.",
        f"- Two convolutions, {statistics.median(mine) * 1e3:.3f} ms: processor time of the harness's mean call",
        "  over that of a bare loop's,",
        f"  {ROUNDS} turns: median ratio {ratio.middle:.4f} (95% interval {ratio.low:.4f} .. {ratio.high:.4f}).",
    ]
    record("timing_overhead", lines)


if __name__ == "__main__":
    main()
