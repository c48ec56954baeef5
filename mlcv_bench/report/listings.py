"""What `mlcv-bench list` shows, one function a kind of thing, which imports that kind's table alone; no torch."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from mlcv_bench.records import Column, Report, Table, shape_text

if TYPE_CHECKING:
    from mlcv_bench.tasks.catalog import Task

LONGEST_START = 3


def architectures() -> Report:
    """List every architecture of the catalogue and the families."""
    from mlcv_bench.architectures import catalog  # noqa: PLC0415 - this listing and the next alone read it

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
        _words("name"),
        _words("family"),
        Column("year", "year", format="d"),
        _words("section", "notes"),
        Column("input", "input"),
        _words("paper"),
    )
    caption = (
        "Any groups and width: resnext50_16x6d, resnext101_32x4d, resnext29_8x64d. Your own: package.module:factory, "
        "path/to/file.py:factory, torchvision:NAME, timm:NAME."
    )
    return _listing("architectures", rows, Table("Architectures", columns, rows, caption), *families().tables)


def families() -> Report:
    """List the names that mean several architectures."""
    from mlcv_bench.architectures import catalog  # noqa: PLC0415 - as above

    rows = [{"family": family, "members": members} for family, members in catalog.FAMILIES.items()]
    shown = [{"family": family, "members": ", ".join(members)} for family, members in catalog.FAMILIES.items()]
    table = Table("Families: a family's name stands for its members", (_words("family"), _words("members")), shown)
    return _listing("families", rows, table)


def claims() -> Report:
    """List every claim with its expected verdict."""
    from mlcv_bench.claims.claim import CLAIMS  # noqa: PLC0415 - this listing alone reads the claims

    keys = ("id", "section", "expected", "quick", "remark")
    rows = [{key: getattr(claim, key) for key in keys} for claim in CLAIMS.values()]
    columns = (
        _words("id", "claim"),
        _words("expected", "expected verdict"),
        Column("quick", "quick"),
        _words("remark", "the notes' remark"),
    )
    return _listing("claims-list", rows, Table("Claims", columns, rows))


def optimizers() -> Report:
    """List every update rule with its hyperparameters, their defaults, and its update."""
    from mlcv_bench.optimizers.rule import REGISTRY, RULES  # noqa: PLC0415 - this listing alone reads the rules

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "hyperparameters": " ".join(f"{key}={value:g}" for key, value in rule.defaults.items()),
            "needs": rule.needs,
            "slots": " ".join(rule.slots),
            "update": rule.summary,
        }
        for name, rule in RULES.items()
    ]
    rows += [
        {"name": name, "hyperparameters": None, "needs": None, "slots": None, "update": specification}
        for name, specification in REGISTRY.entry_points().items()
    ]
    columns = (_words("name"), _words("hyperparameters"), _words("needs"), _words("update"))
    caption = "With settings: adam:lr=0.1,beta1=0.95. Your own: package.module:function, path/to/file.py:function."
    return _listing("optimizers", rows, Table("Optimizers", columns, rows, caption))


def surfaces() -> Report:
    """List every surface with its formula, its settings and where races begin."""
    from mlcv_bench.surfaces.catalog import REGISTRY, summary  # noqa: PLC0415 - this listing alone reads the surfaces

    rows: list[dict[str, Any]] = []
    for name, build in REGISTRY.builtin.items():
        surface = build()
        settings = inspect.signature(build).parameters.items()
        rows.append(
            {
                "name": name,
                "summary": summary(name),
                "settings": " ".join(f"{key}={parameter.default:g}" for key, parameter in settings),
                "start": surface.start if surface.dimension <= LONGEST_START else f"{surface.dimension} coordinates",
                "minima": len(surface.minima),
            }
        )
    columns = (
        _words("name"),
        _words("summary", "what"),
        _words("settings"),
        Column("minima", "global minima", format="d"),
    )
    caption = (
        "With settings: washboard:force=0.3. Your own: a formula as '0.5*(x**2 + 100*y**2)', "
        "or package.module:attribute."
    )
    return _listing("surfaces", rows, Table("Surfaces", columns, rows, caption))


def subjects() -> Report:
    """List every equivalence that `verify` proves."""
    from mlcv_bench.equivalence.subject import SUBJECTS  # noqa: PLC0415 - this listing alone reads the subjects

    keys = ("name", "section", "summary")
    rows = [{key: getattr(subject, key) for key in keys} for subject in SUBJECTS.values()]
    columns = (_words("name"), _words("section", "notes"), _words("summary", "what is proved"))
    caption = "`all` stands for every subject. Two networks of your own: verify file.py:first file.py:second."
    return _listing("subjects", rows, Table("Subjects of verify", columns, rows, caption))


def tasks() -> Report:
    """List the real tasks, and the models that race on them."""
    from mlcv_bench.tasks.catalog import MODELS, TASKS  # noqa: PLC0415 - this listing alone reads the tasks

    rows = [
        {
            "name": task.name,
            "what": task.what,
            "input": shape_text(task.input) if task.input else None,
            "classes": task.classes,
            "epochs": task.epochs,
            "target": task.target,
            "data": task.where or ("--data FOLDER" if task.needs_data else _packaged(task)),
        }
        for task in TASKS.values()
    ]
    columns = (
        _words("name"),
        _words("what"),
        Column("input", "input", missing="its own"),
        Column("classes", "classes", missing="its own"),
        Column("epochs", "epochs"),
        Column("target", "target", "%", "g", 0.01),
        _words("data", "files"),
    )
    models = [{"name": name, "what": what} for name, what in MODELS.items()]
    caption = "Also the catalogue's for small images (resnet8, plain20, resnext11_4x6d ...), and any specification."
    return _listing(
        "tasks",
        rows,
        Table("Tasks", columns, rows, "Target: validation accuracy. --data names the files' folder."),
        Table("Models", (_words("name"), _words("what")), models, caption),
    )


def _packaged(task: Task) -> str:
    return f"part of {task.package}, of the extra 'tasks'"


def _words(key: str, header: str = "") -> Column:
    return Column(key, header or key, justify="left")


def _listing(study: str, rows: list[dict[str, Any]], *tables: Table) -> Report:
    return Report(study, tuple(rows[0]), rows, tables)
