"""A world for each file of a user's: its imports find its own tree first, and no other tree's modules of one name.

Two checkouts of one package hold files whose absolute imports read the same (`from visnet.layers import Act`). Python
keeps one module a name, so that the second file would compute with the first one's layers.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib.machinery
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcv_bench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import ModuleType

PROJECT_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg")
SHARED = frozenset({"torch", "numpy", "mlcv_bench", *sys.stdlib_module_names})
"""What a process has once for all: it cannot be imported twice, or is Python's."""

_kept: dict[Path, dict[str, ModuleType]] = {}
"""The modules that stand in a folder, while no file of its tree is imported or built from."""
_homes: dict[str, Path] = {}
"""The file whose world a module's file was imported in."""
_entered: list[Path] = []
_imported: dict[tuple[object, ...], ModuleType] = {}
"""What an import of a world gave; a forward pass that imports something does so at every call, and is timed."""


def package_of(path: Path) -> Path | None:
    """Return the folder of the outermost package that a file belongs to; None for a file beside no `__init__.py`."""
    package = None
    for folder in path.parents:
        if not (folder / "__init__.py").is_file():
            break
        package = folder
    return package


def imports_relatively(path: Path) -> bool:
    """Tell whether a file says `from .layers import ...` anywhere, which only a package's modules can."""
    nodes = ast.walk(ast.parse(path.read_bytes()))
    return any(isinstance(node, ast.ImportFrom) and node.level > 0 for node in nodes)


def tree_of(path: Path) -> list[Path]:
    """Return the folders in which a file's imports are looked for first, the nearest first.

    Its own, as when Python runs it, that of its package, and its project's with `src`, as when one is installed.
    """
    package = package_of(path)
    names = _named(path)
    found = [path.parent, *([package.parent] if package else [])]
    # A package without `__init__.py` is known by those who import from it.
    found += [folder.parent for folder in path.parents if folder.name in names]
    project = next((folder for folder in path.parents if any((folder / mark).exists() for mark in PROJECT_MARKS)), None)
    if project is not None:
        found += roots_of(project)
    return list(dict.fromkeys(found))


def roots_of(checkout: Path) -> list[Path]:
    """Return the folders of a checkout that hold its packages: `src` where there is one, and itself."""
    return [folder for folder in (checkout / "src", checkout) if folder.is_dir()]


def _named(path: Path) -> set[str]:
    """Return the top-level names that a file imports from."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (OSError, SyntaxError, ValueError):  # importing it will say so
        return set()
    found = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    found |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return {name.partition(".")[0] for name in found}


@contextlib.contextmanager
def own_folder(path: Path) -> Iterator[None]:
    """Make what lies in a file's own tree importable inside, before anything else of the same name.

    Afterwards sys.path and sys.modules are as they were, but for libraries from elsewhere. The tree's modules come
    back, the same, when code of the tree runs inside once more, or a function of theirs imports something.

    Raises:
        UsageError: what was imported lies in another tree, though this one has it.

    """
    path = path.resolve()
    tree = tree_of(path)
    searched = sys.path[:]
    own = {name: module for folder in reversed(tree) for name, module in _kept.get(folder, {}).items()}
    foreign = {name for name in _found_in(tree, _tops(sys.modules)) if not _stands_in(sys.modules[name], tree)}
    hidden = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in foreign - SHARED}
    for name in hidden:
        del sys.modules[name]
    before = set(sys.modules)
    sys.modules.update({name: module for name, module in own.items() if name not in before})
    sys.path[:0] = map(str, tree)
    _entered.append(path)
    try:
        yield
        refuse_strays(path, tree, {name for name in set(sys.modules) - before if "." not in name})
    finally:
        _entered.pop()
        new = {name: sys.modules[name] for name in set(sys.modules) - before}
        remember(path, (module for module in new.values() if _lies_in(module, tree)))
        for folder in tree:
            tops = {name for name, module in new.items() if "." not in name and _stands_in(module, [folder])}
            mine = {name: new.pop(name) for name in list(new) if name.partition(".")[0] in tops}
            _kept.setdefault(folder, {}).update(mine)
            for name in mine:
                sys.modules.pop(name, None)
        for name in [name for name in sys.modules if name.partition(".")[0] in foreign - SHARED]:
            del sys.modules[name]
        sys.modules.update(hidden)
        # Last, since packages without `__init__.py` find their folders on it whenever they are asked.
        sys.path[:] = searched


def remember(path: Path, modules: Iterable[ModuleType]) -> None:
    """Let what a function of these modules imports when it is called be found in this file's world too."""
    for module in modules:
        if (file := getattr(module, "__file__", None)) is not None:
            _homes.setdefault(file, path.resolve())
    if _homes and builtins.__import__ is _PLAIN_IMPORT:
        builtins.__import__ = _import


_PLAIN_IMPORT = builtins.__import__


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,  # noqa: A002 - Python's own signature
    locals: Mapping[str, object] | None = None,  # noqa: A002 - as above
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:  # noqa: ANN401 - a module
    """Import as Python does, a function of a world in that world."""
    home = _homes.get(str(globals.get("__file__"))) if globals else None
    if home is None or (_entered and _entered[-1] == home):
        return _PLAIN_IMPORT(name, globals, locals, fromlist, level)
    asked = (home, globals.get("__package__") if globals else None, name, tuple(fromlist or ()), level)
    if asked not in _imported:
        with own_folder(home):
            _imported[asked] = _PLAIN_IMPORT(name, globals, locals, fromlist, level)
    return _imported[asked]


def refuse_strays(what: object, tree: Sequence[Path], names: Iterable[str]) -> None:
    """Refuse modules that were imported from elsewhere though the tree has them.

    Args:
        what: whose tree it is, for the message.
        tree: the folders of the tree.
        names: top-level names of what was imported.

    Raises:
        UsageError: the first of them, with both places.

    """
    for name in sorted(_found_in(tree, names)):
        module = sys.modules.get(name)
        if module is not None and name not in sys.stdlib_module_names and not _stands_in(module, tree):
            place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), "elsewhere")
            raise UsageError(
                f"{what} computes with {name} of {place}, not of its own tree, which has one; "
                "take that folder off sys.path, or uninstall it"
            )


def _lies_in(module: ModuleType, tree: Sequence[Path]) -> bool:
    """Tell whether a module's file lies in a tree, at any depth but for installed libraries."""
    file = Path(getattr(module, "__file__", None) or "/")
    return "site-packages" not in file.parts and any(folder in file.resolve().parents for folder in tree)


def _tops(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def _found_in(tree: Sequence[Path], names: Iterable[str]) -> set[str]:
    """Return the names of loaded modules of which a tree's folders hold one too."""
    found: set[str] = set()
    for folder in tree:
        try:
            there = set(os.listdir(folder))  # noqa: PTH208 - names alone, and Path's iterdir makes a path of each
        except OSError:
            continue
        for name in set(names) & _tops(there):
            files = (f"{name}{suffix}" for suffix in importlib.machinery.all_suffixes())
            if not there.isdisjoint(files) or (name in there and _is_package(folder / name, sys.modules.get(name))):
                found.add(name)
    return found


def _is_package(folder: Path, loaded: ModuleType | None) -> bool:
    """Tell whether a folder would be imported; one without `__init__.py` only where nothing else has a package."""
    namespace = loaded is not None and getattr(loaded, "__file__", None) is None
    return (folder / "__init__.py").is_file() or (namespace and folder.is_dir())


def _stands_in(module: ModuleType, folders: Sequence[Path]) -> bool:
    """Tell whether a module or package lies in a folder itself, not deeper: a virtual environment may lie there too."""
    places = list(getattr(module, "__path__", [])) or [getattr(module, "__file__", None) or ""]
    return any(Path(place).resolve().parent in folders for place in places if place)
