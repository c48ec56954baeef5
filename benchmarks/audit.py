"""The audit of every architecture of the catalogue: fvcore, torch's counter and ours, and what is left unexplained."""

from __future__ import annotations

import sys

from harness import machine, record

from mlcv_bench.architectures import catalog
from mlcv_bench.counting.audit import audit
from mlcv_bench.counting.network import Network
from mlcv_bench.report.audits import overview


def main() -> None:
    """Audit, print and record; leave with 1 if anything is left over."""
    lines = [
        f"Machine: {machine()}, fvcore 0.1.5.post20221221. One image each.",
        "",
        "| architecture | MACs | fvcore says | torch says | modules compared | leftover |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    left = 0
    for name in sys.argv[1:] or catalog.ARCHITECTURES:
        found = overview(audit(Network.of(name)))
        left += int(found["leftover"])
        figures = [f"{found[key]:,}" for key in ("macs", "fvcore", "torch", "modules", "leftover")]
        lines.append(f"| `{name}` | {' | '.join(figures)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    lines += ["", f"Left over altogether: {left}."]
    record("audit", lines)
    sys.exit(bool(left))


if __name__ == "__main__":
    main()
