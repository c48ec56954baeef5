"""Pages in a real browser: what is drawn, sorted, filtered and folded, and that nothing of a user's is markup."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json

import pytest

from mlcv_bench.cli.app import run
from mlcv_bench.counting.own_figures import front
from mlcv_bench.records import Column, Report, Table
from mlcv_bench.report.page.document import page_of
from mlcv_bench.report.page.figures import figure_of, text
from mlcv_bench.report.plots.panel import Panel, Scaled, Series
from tests.report.page.conftest import until
from tests.suites.documents import cost, document

HOSTILE = "<script>alert(1)</script><b>bold</b> $x$ %{y} \" onload='alert(2)'"
COMMANDS = {
    "cost": "flops resnet20 plain20 resnet32",
    "summary": "summary resnet20",
    "verify": "verify momentum",
    "time": "time resnet20 --batch 1,2 --seconds 0.1 --threads 1",
    "claims": "claims --id 1.1-sphere",
    "draw": "draw resnet20",
    "list": "list surfaces",
}
"""A small run of every kind of page, by its study."""
PLOTS = {"cost": 2, "summary": 1, "verify": 0, "time": 4, "claims": 0, "draw": 0, "list": 0}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return what makes a study's page, and the JSON beside, once."""
    folder = tmp_path_factory.mktemp("pages")

    def page(study):
        place = folder / f"{study}.html"
        if not place.exists():
            words = COMMANDS[study].split()
            also = [] if study == "draw" else ["-o", str(folder / f"{study}.json")]
            words = [*words, "--quiet", "-o", str(place), *also]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("sys.argv", ["mlcv-bench", *words])  # a page names its command
                assert run(words) == 0
        return place

    return page


@pytest.mark.parametrize("study", COMMANDS)
def test_a_page_opens_without_an_error_and_its_plots_are_drawn(study, pages, visit):
    tab = visit(pages(study))
    assert tab.locator(".plot .main-svg").count() >= PLOTS[study]
    assert tab.locator(".plot").count() == PLOTS[study]
    assert tab.locator("table").count() >= 1
    assert COMMANDS[study] in tab.locator(".command code").first.inner_text()
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_files_are_what_the_command_saves(pages, visit):
    tab = visit(pages("cost"))
    saved = json.loads(pages("cost").with_suffix(".json").read_text())
    held = {}
    for kind in ("CSV", "JSON"):
        with tab.expect_download() as download:
            tab.get_by_role("button", name=kind, exact=True).click()
        assert download.value.suggested_filename == f"cost.{kind.lower()}"
        held[kind] = download.value.path().read_text()
    assert json.loads(held["JSON"])["runs"] == saved["runs"]
    rows = list(csv.DictReader(io.StringIO(held["CSV"])))
    assert [row["macs"] for row in rows] == [str(one["macs"]) for one in saved["runs"]]


def test_a_click_on_a_header_sorts_by_value_and_back(pages, visit):
    tab = visit(pages("cost"))
    table = tab.locator(".table").first
    header = table.locator("thead th", has_text="MACs [").first
    names = table.locator("tbody td:first-child")
    header.locator("button").click()
    assert (
        names.all_inner_texts() == ["resnet20", "plain20", "resnet32"]
        or header.get_attribute("aria-sort") == "ascending"
    )
    ascending = names.all_inner_texts()
    header.locator("button").press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert names.all_inner_texts()[0] == ascending[-1] == "resnet32"


def page_at(tmp_path, report, of=None):
    place = tmp_path / "page.html"
    place.write_text("".join(page_of(report, of)))
    return place


def report_of(rows, study="anything"):
    columns = (Column("name", "name", justify="left"), Column("size", "size", "k", ",.0f", 1e3))
    return Report(study, ("name", "size"), rows, [Table("Sizes", columns, rows)])


def test_rounded_figures_are_sorted_by_what_they_are(tmp_path, visit):
    sizes = {"a": 9_400, "b": 10_499, "c": None, "d": 10_501, "e": 9_300, "f": 120_000}
    tab = visit(page_at(tmp_path, report_of([{"name": name, "size": size} for name, size in sizes.items()])))
    tab.locator("thead button", has_text="size").click()
    assert tab.locator("tbody td:first-child").all_inner_texts() == ["e", "a", "b", "d", "f", "c"]
    tab.locator("thead button", has_text="size").click()
    assert tab.locator("tbody td:first-child").all_inner_texts() == ["f", "d", "b", "a", "e", "c"]


def test_a_filter_keeps_the_rows_with_every_word(tmp_path, visit):
    rows = [{"name": f"{kind}{size} net", "size": size} for kind in ("res", "vgg") for size in (18, 34, 50)]
    tab = visit(page_at(tmp_path, report_of(rows)))
    tab.get_by_label("Filter").fill("NET res")
    assert tab.locator("tbody tr:visible").count() == 3
    assert tab.locator("output").inner_text() == "3 of 6 rows"
    tab.get_by_label("Filter").fill("")
    assert tab.locator("tbody tr:visible").count() == 6


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_the_theme_is_the_readers_until_the_button_turns_it(scheme, width, pages, visit):
    tab = visit(pages("cost"), scheme, width)
    assert tab.evaluate("document.documentElement.scrollWidth") == width  # a phone is not scrolled sideways
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "document.querySelector('.plot').layout.font.color"
    whites = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}
    other = {"light": "dark", "dark": "light"}[scheme]
    for shown in (scheme, other, scheme):
        assert tab.evaluate(paper) == whites[shown]
        until(tab, f"{ink} === getComputedStyle(document.documentElement).getPropertyValue('--ink')")
        tab.get_by_role("button", name="Light or dark").click()


def test_the_command_is_copied(pages, visit):
    tab = visit(pages("cost"))
    tab.locator(".copy").first.click()
    until(tab, "document.querySelector('.copy').textContent === 'Copied'")


def test_chosen_columns_and_their_front_are_those_of_the_saved_rows(pages, visit):
    tab = visit(pages("cost"))
    runs = json.loads(pages("cost").with_suffix(".json").read_text())["runs"]
    tab.get_by_role("combobox", name="upwards").select_option(index=2)
    until(tab, "document.querySelector('.plot').layout.yaxis.title.text.startsWith('activations')")
    drawn = "(p => [p.data, p.layout.xaxis.title.text, p.layout.yaxis.title.text])(document.querySelector('.plot'))"
    data, *words = tab.evaluate(drawn)
    across, up = ({"k]": 1e3, "M]": 1e6}[title[-2:]] for title in words)
    points = [(run["params"] / across, run["activations"] / up) for run in runs]
    *families, line = (list(zip(trace["x"], trace["y"], strict=True)) for trace in data)
    best = [point for point, on in zip(points, front(points, "lower"), strict=True) if on]
    for found, expected in (([*itertools.chain(*families)], points), (line, best)):
        assert sorted(found) == [pytest.approx(point) for point in sorted(expected)]


def test_a_tree_of_modules_sums_to_the_network(pages, visit):
    tab = visit(pages("cost"))
    runs = json.loads(pages("cost").with_suffix(".json").read_text())["runs"]
    tree = "(() => { const t = document.querySelectorAll('.plot')[1].data[0]; return [t.ids, t.parents, t.values]; })()"
    for size in ("macs", "params"):
        tab.get_by_role("combobox", name="size by").select_option(index=("macs", "params").index(size))
        for place, one in enumerate(runs):
            tab.get_by_role("combobox", name="network").select_option(index=place)
            until(tab, f"document.querySelectorAll('.plot')[1].data[0].values[0] === {one[size]}")
            ids, parents, values = tab.evaluate(tree)
            by_id = dict(zip(ids, values, strict=True))
            tops = [value for value, parent in zip(values, parents, strict=True) if parent == "all"]
            assert by_id["all"] == one[size] == sum(tops)


def test_a_stage_folds_by_click_and_by_key(pages, visit):
    tab = visit(pages("draw"))
    stage = tab.locator(".stage:not(.plain)").first
    button = stage.get_by_role("button")
    assert stage.locator("svg").is_visible()
    stage.locator("svg").click(position={"x": 2, "y": 2})
    assert not stage.locator("svg").is_visible()
    assert button.get_attribute("aria-expanded") == "false"
    button.press("Enter")
    assert stage.locator("svg").is_visible()
    tab.get_by_role("button", name="Fold all", exact=True).click()
    assert tab.locator(".stage:not(.plain) svg:visible").count() == 0
    tab.get_by_role("button", name="Unfold all").click()
    box = tab.locator(".box", has_text="linear").first
    box.focus()
    assert "650 parameters, 640 MACs" in tab.locator(".network output").inner_text()
    before = tab.locator(".canvas").bounding_box()["height"]
    tab.get_by_role("button", name="+", exact=True).click()
    assert tab.locator(".canvas").bounding_box()["height"] == pytest.approx(1.25 * before, rel=0.02)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Return a page on which a user named everything, with two figures of the same two series."""
    from mlcv_bench.report.page import figures

    def panels(_report, _of):
        for title in (HOSTILE, "second"):
            lines = [
                Series([0, 1], [0, 1], "#000000", name=HOSTILE, texts=[HOSTILE, HOSTILE]),
                Series([0, 1], [1, 0], "#D55E00", name="two"),
            ]
            yield Panel(title, Scaled(HOSTILE), Scaled(ticks=[0, 1], tick_words=[HOSTILE, "b"]), lines)

    rows = [{"name": HOSTILE, "size": 1}, {"name": "</script><img src=x onerror=alert(3)>", "size": 2}]
    report = report_of(rows)
    table = dataclasses.replace(report.tables[0], title=HOSTILE)
    report = dataclasses.replace(report, notes=[HOSTILE], warnings=[HOSTILE], tables=[table])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(figures.FIGURES, "anything", "page.figures:panels")
        patch.setattr(figures, "panels", panels, raising=False)
        return page_at(tmp_path_factory.mktemp("hostile"), report)


def test_what_users_name_is_text(hostile, visit):
    tab = visit(hostile)
    for place in (".table td", "caption", ".note", "figcaption"):
        assert tab.locator(place).first.inner_text() == HOSTILE
    assert tab.locator("main img").count() == 0
    assert set(tab.locator("main b").all_inner_texts()) == {"Warning:", HOSTILE}
    for place in (".legendtext", ".xtitle", ".ytick text"):
        assert tab.locator(place).first.evaluate("node => node.textContent") == HOSTILE
    tab.locator(".plot").first.evaluate("plot => Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: 1}])")
    tab.locator(".hovertext").first.wait_for()
    assert HOSTILE in tab.locator(".hovertext").first.evaluate("node => node.textContent")


def test_a_click_on_a_name_hides_it_in_every_figure(hostile, visit):
    tab = visit(hostile)
    hidden = "JSON.stringify([...document.querySelectorAll('.plot')].map(p => p.data.map(t => t.visible ?? true)))"
    tab.locator(".plot").first.locator(".legendtoggle").first.click()
    until(tab, f'{hidden} === \'[["legendonly",true],["legendonly",true]]\'')
    tab.locator(".plot").last.locator(".legendtoggle").first.click()
    until(tab, f"{hidden} === '[[true,true],[true,true]]'")


def test_what_is_black_is_seen_on_a_dark_page(hostile, visit):
    tab = visit(hostile, "dark", 360)
    colours = "document.querySelector('.plot').data.map(trace => trace.line.color)"
    assert tab.evaluate(colours) == ["#ffffff", "#D55E00"]


def test_paper_is_light_and_narrow(hostile, visit):
    tab = visit(hostile, "dark", 360)
    looks = "(p => [p.data[0].line.color, p.layout.font.color, p.layout.width])(document.querySelector('.plot'))"
    before = tab.evaluate(looks)
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    until(tab, f'JSON.stringify({looks}) === \'["#000000","#000000",640]\'')
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    until(tab, f"JSON.stringify({looks}) === '{json.dumps(before, separators=(',', ':'))}'")


def test_a_panel_is_one_data_for_both(tmp_path):
    from matplotlib.figure import Figure

    panel = Panel(
        "title",
        Scaled("x", "log", low=0.5, high=20),
        Scaled("y"),
        [Series([1, 2, 10], [3.0, 1.0, 2.0], "#0072B2", name="one", band=([2, 0, 1], [4, 2, 3]))],
        level=1.5,
    )
    axes = Figure().add_subplot()
    panel(axes)
    band, line = figure_of(panel).data
    assert list(axes.lines[0].get_xdata()) == list(line.x) == [1, 2, 10]
    assert list(axes.lines[0].get_ydata()) == list(line.y) == [3.0, 1.0, 2.0]
    assert axes.get_xscale() == figure_of(panel).layout.xaxis.type == "log"
    assert axes.get_xlim() == pytest.approx([10**end for end in figure_of(panel).layout.xaxis.range])
    assert list(band.y) == [4, 2, 3, 1, 0, 2]


def test_plotly_reads_no_markup_in_what_is_escaped():
    assert text("<b>&lt;") == "&lt;b&gt;&amp;lt;"


def test_saved_results_of_several_studies_are_one_page(pages, tmp_path, visit, capsys):
    for study in ("cost", "time", "claims"):
        pages(study)
    capsys.readouterr()
    saved = [str(pages(study).with_suffix(".json")) for study in ("cost", "time", "claims")]
    assert run(["report", *saved, "-o", str(tmp_path / "all.html"), "--assets", str(tmp_path / "more" / "assets")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "all.html")
    assert (tmp_path / "all.html").stat().st_size < 1_000_000
    tab = visit(tmp_path / "all.html")
    assert tab.locator(".plot").count() == PLOTS["cost"] + PLOTS["time"]
    assert tab.locator(".card").count() == 1
    assert tab.locator("nav a").all_inner_texts() == ["cost.json", "time.json", "claims.json"]
    live, again = (visit(path).locator(".table").first.inner_text() for path in (pages("cost"), tmp_path / "all.html"))
    assert sorted(again.splitlines()) == sorted(live.splitlines())


def test_a_suite_has_its_entries_below_its_verdict(tmp_path, visit):
    rows = [{"entry": "small", "verdict": "pass"}, {"entry": "large", "verdict": "fail"}]
    columns = (Column("entry", "entry", justify="left"), Column("verdict", "verdict", justify="left"))
    entries = {"small": document("cost", [cost()]), "<b>": document("cost", [cost("resnet32")])}
    report = Report(
        "suite", ("entry", "verdict"), rows, [Table("gate", columns, rows)], ["1 fail."], details={"entries": entries}
    )
    tab = visit(page_at(tmp_path, report))
    assert tab.locator(".verdict").inner_text() == "1 fail."
    assert tab.locator("h2").all_inner_texts() == ["suite", "small.json", "<b>.json"]
    assert tab.locator("[data-verdict]").evaluate_all("cells => cells.map(cell => cell.dataset.verdict)") == [
        "good",
        "bad",
    ]


def test_comparisons_show_every_ratio():
    from mlcv_bench.report.plots.comparisons import pairs, ratios

    run = {"verdict": "slower", "ratio": 1.1, "margin": 0.02}
    report = Report("ab", (), [run], details={"ratios": [[1.1, 1.2], [1.0]], "control_ratios": [[0.99], [1.01]]})
    (panel,) = pairs(report)
    control, found, *lines = panel.series
    assert [list(trace.x) for trace in figure_of(panel).data[:2]] == [[1, 2], [1, 2, 3]]
    assert (control.y, found.y) == ([0.99, 1.01], [1.1, 1.2, 1.0])
    assert [line.y[0] for line in lines] == [1.02, 0.98, 1.1]
    rows = [
        {"row": name, "quantity": "median_s", "change": "worse", "ratio": ratio, "ratio_low": low, "ratio_high": high}
        for name, ratio, low, high in (("a", 1.5, 1.4, 1.6), ("b", 1.01, None, None), ("c", None, None, None))
    ]
    (panel,) = ratios(Report("compare", (), rows))
    assert [list(one.x) for one in panel.series] == [[1.01, 1.01], [1.01], [1.4, 1.6], [1.5]]
    assert panel.y.tick_words == ["b: median_s", "a: median_s"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["flops", "resnet20", "--assets", "folder"], "--assets is for a page, and no -o names one; add -o FILE.html"),
    ],
)
def test_a_page_that_cannot_be_made_is_refused_at_once(words, sentence, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    assert sentence in capsys.readouterr().err
