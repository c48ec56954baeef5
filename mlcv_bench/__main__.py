"""The entry point of `mlcv-bench` and of `python -m mlcv_bench`."""

from __future__ import annotations

import gc
import sys
import warnings

from mlcv_bench import interruption
from mlcv_bench.records import visible


def show_warning(message: Warning | str, *_: object) -> None:
    """Show a library's warning as our own, without the place in its code."""
    sys.stderr.write(f"warning: {visible(str(message))}\n")


def main() -> None:
    """Run the command line and leave with its exit code."""
    # Networks and tensors are freed by their counts; looking for cycles among all that torch loads costs a tenth.
    gc.set_threshold(200_000, 20, 50)
    interruption.hold()
    warnings.showwarning = show_warning  # type: ignore[assignment] # Python passes all by position
    try:
        from mlcv_bench.cli.app import run  # noqa: PLC0415 - so that worker processes can import this module cheaply

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write(f"mlcv-bench: {interruption.reason()}\n")
        code = interruption.exit_code()
    interruption.leave(code)
    # All that is freed by its count still is; looking once more for cycles among what torch loads took 0.4 s.
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
