"""What `mlcv-bench list` shows, one function a kind of thing; no torch."""

from __future__ import annotations

from typing import Any

from mlcv_bench.architectures import catalog
from mlcv_bench.records import Column, Report, Table, shape_text


def architectures() -> Report:
    """List every architecture of the catalogue and the families."""
    rows: list[dict[str, Any]] = [
        {
            "name": entry.name,
            "family": entry.family,
            "year": entry.year,
            "paper": entry.paper,
            "section": entry.section,
            "input": shape_text(entry.input),
        }
        for entry in catalog.ARCHITECTURES.values()
    ]
    rows += [
        {"name": name, "family": "installed", "year": None, "paper": specification, "section": None, "input": None}
        for name, specification in catalog.REGISTRY.entry_points().items()
    ]
    columns = (
        Column("name", "name", justify="left"),
        Column("family", "family", justify="left"),
        Column("year", "year", format="d"),
        Column("section", "notes", justify="left"),
        Column("input", "input"),
        Column("paper", "paper", justify="left"),
    )
    caption = (
        "Any groups and width: resnext50_16x6d, resnext101_32x4d, resnext29_8x64d. Your own: package.module:factory, "
        "path/to/file.py:factory, torchvision:NAME, timm:NAME."
    )
    return Report(
        "architectures",
        ("name", "family", "year", "paper", "section", "input"),
        rows,
        [
            Table("Architectures", columns, rows, caption),
            *families().tables,
        ],
    )


def families() -> Report:
    """List the names that stand for several architectures."""
    rows = [{"family": family, "members": members} for family, members in catalog.FAMILIES.items()]
    shown = [{"family": family, "members": ", ".join(members)} for family, members in catalog.FAMILIES.items()]
    columns = (Column("family", "family", justify="left"), Column("members", "members", justify="left"))
    table = Table("Families: a family's name stands for its members", columns, shown)
    return Report("families", ("family", "members"), rows, [table])
