"""How fast the command starts and counts: --help against typer, flops against torch, the counter against fvcore."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from harness import machine, paired, python, record

COUNT = """
import json, resource, sys, time, warnings, logging
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
import torch
from torch import nn
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
if sys.argv[1] == "ours":
    from mlcv_bench.counting.cost import count
    work = lambda: count("resnext101_64x4d").macs
else:
    from fvcore.nn import FlopCountAnalysis
    from mlcv_bench import build
    def work():
        analysis = FlopCountAnalysis(build("resnext101_64x4d").eval(), torch.ones(1, 3, 224, 224))
        analysis.unsupported_ops_warnings(False)
        return analysis.total()
before = peak()
start = time.perf_counter(); macs = work(); cold = time.perf_counter() - start
memory = peak() - before
start = time.perf_counter(); work(); warm = time.perf_counter() - start
print(json.dumps({"cold": cold, "warm": warm, "mib": memory, "macs": macs}))
"""


def counted(who: str) -> dict[str, float]:
    """Count ResNeXt-101 64x4d in a fresh process, construction included; return seconds and added MiB."""
    done = subprocess.run(python("-c", COUNT, who), check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print and record."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    command = python("-m", "mlcv_bench")
    lines = [f"Machine: {machine()}. Whole processes in turn, {runs} pairs; ratio: median (quartiles).", ""]
    lines += ["| command | against | median | against | ratio | target |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    for one, other, target, names in [
        (
            [*command, "--help"],
            python("-c", "import typer"),
            1.5,
            ("`mlcv-bench --help`", "`python -c 'import typer'`"),
        ),
        (
            [*command, "flops", "resnext"],
            python("-c", "import torch"),
            1.3,
            ("`mlcv-bench flops resnext`", "`python -c 'import torch'`"),
        ),
    ]:
        mine, theirs, ratio, low, high = paired(one, other, runs)
        spread = f"{ratio:.2f} ({low:.2f}-{high:.2f})"
        lines.append(f"| {names[0]} | {names[1]} | {mine:.3f} s | {theirs:.3f} s | {spread} | {target} |")
    pairs = [(counted("ours"), counted("fvcore")) for _ in range(max(3, runs // 3))]
    cold = statistics.median(theirs["cold"] / mine["cold"] for mine, theirs in pairs)
    warm = statistics.median(theirs["warm"] / mine["warm"] for mine, theirs in pairs)
    ours = statistics.median(mine["cold"] for mine, _ in pairs)
    memory = statistics.median(mine["mib"] for mine, _ in pairs)
    lines += [
        "",
        "Counting `resnext101_64x4d`, model construction included on both sides, fresh processes, torch imported",
        f"before: first count {ours * 1e3:.0f} ms, **{cold:.0f} times faster than fvcore** (second count: {warm:.0f};",
        f"target 20); adds {memory:.1f} MiB of peak resident memory (target under 30).",
    ]
    record("start", lines)


if __name__ == "__main__":
    main()
