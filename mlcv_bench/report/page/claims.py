"""Claims on their page: a card a remark, with its words, verdict, measured beside predicted, and its picture."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcv_bench.claims.claim import ClaimResult
from mlcv_bench.records import Table, visible
from mlcv_bench.report.claims import NUMBERS, VERDICTS
from mlcv_bench.report.formats.html import html_table, verdict_word
from mlcv_bench.report.page.figures import Markup, shown
from mlcv_bench.report.plots.claims import draw_scene

if TYPE_CHECKING:
    from mlcv_bench.records import Report


def figures(report: Report, of: object = None) -> Iterator[Markup]:
    """Yield the cards; a saved result has no measurements to draw pictures of."""
    results = {one.id: one for one in of if isinstance(one, ClaimResult)} if isinstance(of, Sequence) else {}
    cards = [card(run, report.details.get(run["id"], []), results.get(run["id"])) for run in report.runs]
    held = "" if results else '<p class="note">The file holds no pictures. The command of a card draws its own.</p>'
    if cards:
        yield Markup("Remark by remark", f'{held}<div class="cards">{"".join(cards)}</div>')


def card(run: Mapping[str, Any], numbers: Sequence[Mapping[str, Any]], result: ClaimResult | None) -> str:
    """Write one claim."""
    name = str(run["id"])
    verdict = VERDICTS.get(run["verdict"], "failed")
    limit = run.get("limit")
    ending = f"{verdict}: {limit}" if limit and run["verdict"] == "holds_with_limit" else verdict
    scene = f'<img alt="What was measured, for {shown(name)}" src="{picture(result)}">' if has_scene(result) else ""
    table = html_table(Table("", NUMBERS[1:], numbers)) if numbers else ""
    words = run.get("explanation") or run.get("reason") or ""
    return (
        f'<article class="card" id="claim-{shown(name)}"><h4>{shown(name)}</h4><blockquote>{shown(run["remark"])}'
        f'</blockquote><p data-verdict="{verdict_word(verdict)}">{shown(ending)}</p><p>{shown(words)}</p>{scene}'
        f'<div class="wide" tabindex="0">{visible(table)}</div><p class="command"><code>mlcv-bench claims --id '
        f'{shown(name)} --show</code> <button type="button" class="copy">Copy</button></p></article>\n'
    )


def has_scene(result: ClaimResult | None) -> bool:
    """Tell whether a claim was tested here and has something to draw."""
    return result is not None and result.evidence is not None and bool(result.evidence.scene)


def picture(result: ClaimResult | None) -> str:
    """Return a claim's scene as the address of a picture that the page holds."""
    if result is None:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "scene.png"
        draw_scene(result, place)
        return f"data:image/png;base64,{base64.b64encode(place.read_bytes()).decode()}"
