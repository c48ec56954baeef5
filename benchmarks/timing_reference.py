"""Our networks against plain ones of the same architecture, side by side in one run; and the three forms of ResNeXt.

Where two networks of 100 MB lie in the memory of one process moves their ratio by about half a percent for as long as
it lives. So each pair is measured in several processes, in either order by turns, and the interval is over those.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from harness import machine, python, record

from mlcv_bench.comparing.saved import load
from mlcv_bench.statistics import median_interval
from mlcv_bench.timing.blocks import Block
from mlcv_bench.timing.sampling import Plan, Sampling, relative

PLAIN = Path(__file__).parent / "plain_networks.py"
NAMES = ("resnet50", "resnet50_v1_5", "resnext50_32x4d")


def run(folder: Path, seconds: float, *arguments: str) -> dict:
    """Time some cells and return the saved document."""
    path = folder / "out.json"
    options = ["--threads", "1", "--seconds", str(seconds), "--precision", "0.5%", "--quiet", "-o", str(path)]
    subprocess.run(python("-m", "mlcv_bench", "time", *arguments, *options), check=True, stdout=subprocess.DEVNULL)
    load(path)
    return json.loads(path.read_text())


def sampling(document: dict, run: dict) -> Sampling:
    """Read a cell's blocks back."""
    return Sampling([Block.from_dict(block) for block in document["details"]["cells"][run["key"]]["blocks"]])


def main() -> None:
    """Time every pair and write the ratios down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--note", default="")
    said = parser.parse_args()
    plan = Plan()
    lines = [
        "# Ours against plain networks of the same architecture",
        "",
        f"Machine: {machine()}, one thread, batch 1, {said.seconds:g} s a cell, {said.runs} processes a pair.",
        said.note,
        "",
        "| network | ours [ms] | plain [ms] | ours / plain | 95% interval over processes | contended rows |",
        "|:---|---:|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as name:
        for network in NAMES:
            pair = [network, f"{PLAIN}:{network}"]
            pairs, ratios = [], []
            for turn in range(said.runs):
                document = run(Path(name), said.seconds, *(pair if turn % 2 else reversed(pair)), "--seed", str(turn))
                ours, plain = sorted(document["runs"], key=lambda row: row["architecture"] != network)
                if (ours["params"], ours["macs"]) != (plain["params"], plain["macs"]):
                    raise SystemExit(f"{network} and its plain form are not the same network")
                ratios.append(relative(sampling(document, plain), sampling(document, ours), plan).middle)
                pairs.append((ours, plain))
            ratio = median_interval(ratios)
            middles = [statistics.median(row["median_s"] for row in side) * 1e3 for side in zip(*pairs, strict=True)]
            loaded = sum(row["contention"] != "none" for rows in pairs for row in rows)
            lines.append(
                f"| {network} | {middles[0]:.2f} | {middles[1]:.2f} | {ratio.middle:.4f} | "
                f"{ratio.low:.4f} .. {ratio.high:.4f} | {loaded} of {2 * said.runs} |"
            )
        lines += [
            "",
            "The three forms of resnext50_32x4d, one function, each in a run of its own:",
            "",
            "| form | median [ms] | 95% interval [ms] | memory [MiB] |",
            "|:---|---:|---:|---:|",
        ]
        for form in ("grouped", "concat", "branches"):
            row = run(Path(name), said.seconds, "resnext50_32x4d", "--set", f"form={form}")["runs"][0]
            lines.append(
                f"| {form} | {row['median_s'] * 1e3:.1f} | {row['ci_low_s'] * 1e3:.1f} .. {row['ci_high_s'] * 1e3:.1f} "
                f"| {row['peak_bytes'] / 2**20:.0f} |"
            )
    record("timing_reference", lines)


if __name__ == "__main__":
    main()
