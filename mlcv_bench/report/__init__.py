"""Floor 3: tables, files and pictures."""

from __future__ import annotations

from mlcv_bench.report.emit import Form, emit
from mlcv_bench.report.files import check_outputs

__all__ = ["Form", "check_outputs", "emit"]
