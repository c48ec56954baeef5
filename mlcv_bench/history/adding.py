"""From saved files to results of a commit: what they hold, and what git, the files or the user say of the commit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlcv_bench.comparing.baseline import SCHEMA, load_baseline
from mlcv_bench.comparing.saved import RULES, load_document, read_json, study_of
from mlcv_bench.errors import UsageError
from mlcv_bench.history.commits import Commit, date_of, parse_date, read_commit
from mlcv_bench.history.database import NewResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mlcv_bench.history.request import AddRequest


FOLLOWED = tuple(study for study in RULES if study != "suite")
"""The studies whose figures a history holds; of a suite it holds those of its entries."""


def documents_in(path: Path) -> dict[str, Mapping[str, Any]]:
    """Return a file's documents by the names of their entries: of a suite's result several, otherwise one, unnamed.

    Raises:
        BaselineError: the file is missing.
        UsageError: it is no saved result, or nothing of it can be followed over commits.

    """
    whole = read_json(path, f"{path} does not exist; save one with -o {path.name}")
    if isinstance(whole, dict) and whole.get("schema") == SCHEMA:
        return {name: one for name, one in load_baseline(path).entries.items() if study_of(one) in FOLLOWED}
    document = load_document(path)
    if study_of(document) not in FOLLOWED:
        raise UsageError(f"{path} holds '{study_of(document)}'; a history follows {', '.join(FOLLOWED)}")
    return {"": document}


def new_results(
    documents: Iterable[tuple[str, Mapping[str, Any]]], asked: AddRequest, folder: Path
) -> Iterator[NewResult]:
    """Yield documents, each with the name of its entry, with their commits.

    A document says which its own is, and the checkout in `folder` the rest; git is asked once for a commit.

    Raises:
        UsageError: a commit is known to none of them.

    """
    known: dict[str, Commit] = {}
    for entry, document in documents:
        environment = document["environment"]
        revision = asked.commit or environment.get("commit")
        if not revision:
            raise UsageError("the results were saved outside a checkout and name no commit; give it with --commit")
        if revision not in known:
            known[revision] = _commit(str(revision), environment, asked, folder)
        dirty = bool(environment.get("dirty")) if asked.dirty is None else asked.dirty
        yield NewResult(known[revision], dirty, document, entry)


def _commit(revision: str, environment: Mapping[str, Any], asked: AddRequest, folder: Path) -> Commit:
    found = read_commit(revision, folder)
    if found is None:
        # Not in this checkout: the time of the measurement is the nearest thing to the commit's.
        measured = parse_date(str(environment.get("time"))) if environment.get("time") else date_of(0)
        found = Commit(revision, (), measured, measured)
    if asked.date is not None:
        found = replace(found, author_date=parse_date(asked.date), commit_date=parse_date(asked.date))
    if asked.parents is not None:
        found = replace(found, parents=asked.parents)
    return found if asked.branch is None else replace(found, branch=asked.branch)
