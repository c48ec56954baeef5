"""What only a GPU can tell: each step in a process of its own, in the order of their worth, until the time is spent.

Run by gpu.sh. Writes gpu.md, a digest with every step's output below it.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

from mlcv_bench import build, time_forward
from mlcv_bench.architectures.request import Networks
from mlcv_bench.timing.forward import open_here
from mlcv_bench.timing.gpu import gpu_of
from mlcv_bench.timing.request import CellGrid
from mlcv_bench.torch_private import hold_cuda

DEVICE = "cuda:0"
VIT = ("torchvision.models:vit_b_16",) if importlib.util.find_spec("torchvision") else ()
NETWORKS = ("resnet50", "resnext50_32x4d", "resnet20", *VIT)
CLI = (sys.executable, "-m", "mlcv_bench")


def command(*words: str, columns: int = 200, tail: int = 6000) -> None:
    """Run one command of the tool and print what it prints, with its exit code and seconds."""
    begun = time.perf_counter()
    ran = subprocess.run(
        [*CLI, *words], capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": str(columns)}
    )
    print(f"$ mlcv-bench {' '.join(words)}\n-> {ran.returncode}, {time.perf_counter() - begun:.1f} s")
    print(ran.stdout[-tail:], ran.stderr[-2500:], flush=True)


def environment() -> None:
    """Name the card, and how long NVML takes to answer."""
    print("torch", torch.__version__, "CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version())
    print(torch.cuda.get_device_properties(0))
    begun = time.perf_counter()
    gpu = gpu_of(DEVICE)
    print(f"NVML found in {time.perf_counter() - begun:.3f} s")
    if gpu is not None:
        torch.ones(1, device=DEVICE)
        for _ in range(3):
            begun = time.perf_counter()
            print(gpu.read(), f"{(time.perf_counter() - begun) * 1e3:.2f} ms")
        print(gpu.facts())
    command("env", "-q", tail=3000)


def agreement() -> None:
    """Show by how much each network differs from eager float32, TF32 on and off, and whether that is refused."""
    shallow = ("resnet20", "resnet50", "resnext50_32x4d", "vgg19", "googlenet", "inception_v4", "convnext_tiny")
    for names, settings in (
        (shallow, {"batch": (2,), "tf32": ("default", "off"), "direction": ("forward", "forward-backward")}),
        (("resnet50", "vgg19", "resnet20"), {"batch": (32,), "dtype": ("float32", "bfloat16", "autocast-bfloat16")}),
        (("resnet50",), {"batch": (8,), "runtime": ("cuda-graph",), "direction": ("forward", "forward-backward")}),
        (("resnet50",), {"batch": (8,), "dtype": ("float16", "autocast-float16"), "direction": ("forward-backward",)}),
        (("resnet20",), {"batch": (8,), "deterministic": True}),
    ):
        for cell in CellGrid(Networks(names), device=("cuda",), **settings).cells(seed=0):
            words = (
                f"{cell.architecture:16} batch {cell.batch:2} {cell.runtime:10} {cell.dtype:17} {cell.direction:16} "
            )
            words += f"TF32 {cell.tf32:7} {'deterministic' if cell.deterministic else ''}"
            try:
                workload, facts = open_here(cell, comparing=True)
                workload.close()
                print(f"{words} {facts.max_rel_error:.1e} of {facts.tolerance:.0e} ok", flush=True)
            except Exception as error:  # noqa: BLE001 - a row of the table
                print(f"{words} REFUSED {type(error).__name__}: {str(error).splitlines()[0][:150]}", flush=True)


def by_events(call: Callable[[], object], *, hold_s: float = 0.0) -> float:
    """Return the milliseconds between two events around a call, the queue held before it where that is asked."""
    found = []
    for _ in range(30):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        if hold_s:
            hold_cuda(torch.device(DEVICE), hold_s)
        first.record()
        call()
        last.record()
        torch.cuda.synchronize()
        found.append(first.elapsed_time(last))
    return statistics.median(found)


def by_profiler(call: Callable[[], object]) -> float:
    """Return the milliseconds of a call's kernels."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(5):
            call()
        torch.cuda.synchronize()
    return sum(event.device_time_total for event in profiler.key_averages()) / 5e3


def other_ways(name: str, batch: int, dtype: str) -> list[float]:
    """Return the milliseconds of a pass by five other ways."""
    do_bench = importlib.import_module("triton.testing").do_bench
    number = getattr(torch, dtype)
    network = build(name).eval().to(DEVICE, number)
    images = torch.randn(batch, *Networks((name,)).requests()[0].input, device=DEVICE, dtype=number)
    with torch.inference_mode():

        def call() -> torch.Tensor:
            return network(images)

        for _ in range(20):
            call()
        timer = Timer("call()", globals={"call": call}).blocked_autorange(min_run_time=0.4).median * 1e3
        bench = do_bench(call, warmup=50, rep=300, return_mode="median")
        return [timer, bench, by_events(call), by_events(call, hold_s=0.02), by_profiler(call)]


def figures() -> None:
    """Put the product's figures beside five other ways to time the same network, in turn, on one warm card."""
    print("milliseconds; ours twice, before and after the others")
    print(
        f"{'network':27} {'batch':>5} {'dtype':9} {'median':>8} {'device':>8} {'dispatch':>8} {'bound':7} | "
        f"{'Timer':>8} {'do_bench':>8} {'events':>8} {'held':>8} {'kernels':>8} | {'median':>8} {'device':>8}"
    )
    for dtype, name, batch in itertools.product(("float32", "bfloat16"), NETWORKS, (1, 64)):
        first = time_forward(name, batch=batch, dtype=dtype, device=DEVICE, seconds=1.0).row()
        others = " ".join(f"{other:8.3f}" for other in other_ways(name, batch, dtype))
        last = time_forward(name, batch=batch, dtype=dtype, device=DEVICE, seconds=1.0).row()
        print(
            f"{name:27} {batch:5} {dtype:9} {milliseconds(first, 'median_s', 'device_s', 'dispatch_s')} "
            f"{first['bound']!s:7} | {others} | {milliseconds(last, 'median_s', 'device_s')} "
            f"{first['contention'] or first['reason']}",
            flush=True,
        )


def milliseconds(row: dict[str, Any], *names: str) -> str:
    """Write some columns of a row in milliseconds."""
    return " ".join(f"{(row[name] or float('nan')) * 1e3:8.3f}" for name in names)


def tests() -> None:
    """Run the tests that carry the marker gpu."""
    words = ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-o", "addopts=", "tests/timing"]
    ran = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    print(ran.stdout[-5000:], ran.stderr[-1000:])


def grid() -> None:
    """Time networks by every runtime and type, with the roofline and the energy."""
    command(
        *("time", "resnet50", "resnext50_32x4d", "--device", "cuda", "--batch", "64", "--roofline", "--seconds", "1.5"),
        *("--dtype", "float32,bfloat16,autocast-bfloat16", "--memory-format", "contiguous,channels_last"),
        *("--format", "csv", "-q"),
        columns=220,
    )
    command("time", "resnet20", "convnext_tiny", "--device", "cuda", "--runtime", "eager,cuda-graph", "--seconds", "2")


def memory() -> None:
    """Show that a cell's memory is its own, and that too large a batch is a row."""
    shown = ("--device", "cuda", "--seconds", "0.5", "-q", "--format", "csv")
    command("time", "vgg11", "resnet50", "resnet20", "--batch", "32", *shown)
    command("time", "resnet20", "--batch", "32", *shown)
    command("time", "vgg16", "--dtype", "bfloat16", "--batch", "1024,4096,1048576", *shown)


def lost() -> None:
    """Lose the device in one network's pass: the next fails too, unless each has a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bad.py"
        file.write_text(BAD, encoding="utf-8")
        words = ("time", f"{file}:Bad", "resnet20", "--input", "3x32x32", "--device", "cuda", "--seconds", "0.5")
        command(*words)
        command(*words, "--isolate")


def proofs() -> None:
    """Verify on the device."""
    command("verify", "grouped-conv", "--device", "cuda", "-q", tail=1500)
    command("verify", "resnext", "--groups", "2,32", "--channels", "256", "--device", "cuda", "-q", tail=2500)
    command("verify", "folding", "--device", "cuda", "-q", tail=1000)
    command("verify", "alexnet", "alexnet", "--dtype", "float32", "--device", "cuda", "-q", tail=1500)


def compared() -> None:
    """Compare two memory formats, and a network with itself."""
    head = ("ab", "resnet50 --device cuda --batch 16")
    command(*head, "resnet50 --device cuda --batch 16 --memory-format channels_last", "--seconds", "8")
    command(*head, "resnet50 --device cuda --batch 16", "--seconds", "8")


BAD = """import torch
from torch import nn


class Bad(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 4)

    def forward(self, images):
        there = 10**9 if images.is_cuda else 0
        return self.table(torch.full((1,), there, device=images.device)).sum() + images.flatten(1)
"""

STEPS: dict[Callable[[], None], float] = {
    environment: 30,
    agreement: 70,
    tests: 40,
    figures: 130,
    memory: 50,
    lost: 30,
    grid: 80,
    proofs: 70,
    compared: 60,
}
"""Each step with its limit in seconds."""


def main(out: Path, total: float) -> None:
    """Run every step and write the digest."""
    begun = time.monotonic()
    wanted = os.environ.get("GPU_STEPS", "")
    done, texts = [], []
    for step, limit in STEPS.items():
        left = total - (time.monotonic() - begun)
        if wanted and step.__name__ not in wanted.split(","):
            continue
        if left < 15:
            done.append(f"- {step.__name__}: left out, no time")
            continue
        at = time.monotonic()
        with subprocess.Popen(
            [sys.executable, __file__, step.__name__], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                text, _ = process.communicate(timeout=min(limit, left))
                word = f"exit {process.returncode}"
            except subprocess.TimeoutExpired:
                process.kill()
                text, _ = process.communicate()
                word = "ran out of its time"
        done.append(f"- {step.__name__}: {word}, {time.monotonic() - at:.0f} s")
        texts.append(f"## {step.__name__}\n\n{step.__doc__}\n\n```text\n{text.rstrip()}\n```")
        print(done[-1], text[-1500:], sep="\n", flush=True)
        head = f"# mlcv-bench on a GPU\n\nMade by benchmarks/gpu.sh, {time.strftime('%Y-%m-%d')}.\n"
        (out / "gpu.md").write_text("\n\n".join([head, "\n".join(done), *texts]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    steps = {step.__name__: step for step in STEPS}
    if sys.argv[1] in steps:
        steps[sys.argv[1]]()
    else:
        main(Path(sys.argv[1]), float(sys.argv[2]))
