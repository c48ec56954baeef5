"""LaTeX: the tables that people read, with the rules of booktabs, and the notes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcv_bench.records import Report, Table

SIGNS = {
    "≈": "approx",
    "≤": "leq",
    "≥": "geq",
    "×": "times",
    "±": "pm",
    "→": "to",
    "·": "cdot",
    "∞": "infty",
    "β": "beta",
    "ε": "epsilon",
    "η": "eta",
    "κ": "kappa",
    "λ": "lambda",
    "μ": "mu",
}
"""Signs that LaTeX has in formulas alone."""
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"$\\{name}$" for sign, name in SIGNS.items()},
}
"""What stands in LaTeX for a sign that it reads as something else."""


def to_latex(report: Report) -> str:
    """Write each table as a float, and the notes as paragraphs."""
    parts = ["% needs \\usepackage{booktabs}"]
    parts += ["\n".join(latex_table(table)) for table in report.tables if table.columns]
    return "\n\n".join([*parts, *map(escape, report.notes)]) + "\n"


def latex_table(table: Table) -> list[str]:
    """Return the lines of one table, its title as the caption and what the columns mean below."""
    places = "".join("r" if column.justify == "right" else "l" for column in table.columns)
    rows = [[column.text(row.get(column.key)) for column in table.columns] for row in table.rows]
    return [
        "\\begin{table}",
        "\\centering",
        *([f"\\caption{{{escape(table.title)}}}"] if table.title else []),
        f"\\begin{{tabular}}{{@{{}}{places}@{{}}}}",
        "\\toprule",
        line([column.title for column in table.columns]),
        "\\midrule",
        *map(line, rows),
        "\\bottomrule",
        "\\end{tabular}",
        *([f"\\par\\smallskip\\footnotesize {escape(table.caption)}"] if table.caption else []),
        "\\end{table}",
    ]


def line(cells: list[str]) -> str:
    """Return one row; a minus before a number is a minus, and a bracket is no option of the row before."""
    signed = (re.sub(r"^-(?=[\d.])", "$-$", escape(cell)) for cell in cells)
    text = " & ".join(signed)
    return ("{}" if text.startswith("[") else "") + text + r" \\"


def escape(text: str) -> str:
    """Keep a text from being read as LaTeX; a line's end is a space."""
    return "".join(SPECIAL.get(sign, sign) for sign in " ".join(text.split()))
