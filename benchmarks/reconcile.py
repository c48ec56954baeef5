"""Every tool's figure by our arithmetic against the tool itself, for the whole catalogue; needs the tools installed.

Install them beside the project first: pip install --no-deps thop==0.1.1.post2209072238 ptflops==0.7.5 torchinfo==1.8.0
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings

import torch
from fvcore.nn import FlopCountAnalysis
from harness import machine, record

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.build import build
from mlcv_bench.counting.network import Network
from mlcv_bench.counting.reconcile import reconcile

TOOLS = ("fvcore", "thop", "ptflops", "torchinfo")


def real(name: str) -> dict[str, int]:
    """Return what the tools themselves say of one image."""
    from ptflops import get_model_complexity_info  # noqa: PLC0415 - not one of the project's packages
    from thop import profile  # noqa: PLC0415 - not one of the project's packages
    from torchinfo import summary  # noqa: PLC0415 - not one of the project's packages

    shape = catalog.find(name).input
    image = torch.zeros(1, *shape)
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        analysis = FlopCountAnalysis(build(name).eval(), image)
        analysis.unsupported_ops_warnings(False)  # noqa: FBT003 - fvcore's own signature
        macs, _ = get_model_complexity_info(
            build(name), shape, as_strings=False, print_per_layer_stat=False, backend="pytorch"
        )
        return {
            "fvcore": int(analysis.total()),
            "thop": int(profile(build(name).eval(), inputs=(image,), verbose=False)[0]),
            "ptflops": int(macs),
            "torchinfo": int(summary(build(name), input_data=image, verbose=0).total_mult_adds),
        }


def main() -> None:
    """Compare, print and record; leave with 1 if any figure differs."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    names = sys.argv[1:] or list(catalog.ARCHITECTURES)
    lines = [
        f"Machine: {machine()}; fvcore 0.1.5.post20221221, thop 0.1.1.post2209072238, ptflops 0.7.5, torchinfo 1.8.0.",
        "",
        "What each tool says of one image, run itself; in brackets the difference to our arithmetic for it.",
        "",
        f"| architecture | exact MACs | {' | '.join(TOOLS)} |",
        f"| --- | ---: | {' | '.join('---:' for _ in TOOLS)} |",
    ]
    apart = 0
    for name in names:
        ours = {statement.tool: statement.total for statement in reconcile(Network.of(name))}
        theirs = real(name)
        apart += sum(theirs[tool] != ours[tool] for tool in TOOLS)
        cells = " | ".join(f"{theirs[tool]:,} ({theirs[tool] - ours[tool]:+,})" for tool in TOOLS)
        lines.append(f"| `{name}` | {ours['exact']:,} | {cells} |")
        print(lines[-1], file=sys.stderr, flush=True)
    lines += ["", f"{apart} of {len(names) * len(TOOLS)} figures differ from our arithmetic."]
    record("reconcile", lines)
    sys.exit(bool(apart))


if __name__ == "__main__":
    main()
