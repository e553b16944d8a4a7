"""The page that a sheet is printed from: one file, nothing to load, MathML drawn by the browser, A4."""

from html import escape

_STYLE = """
@page { size: A4; margin: 16mm 16mm 18mm; }
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 11pt/1.45 system-ui, "Segoe UI", "Noto Sans", sans-serif; color: #111; background: #fff; max-width: 178mm; margin: 0 auto;
  padding: 10mm 4mm; }
h1 { font-size: 16pt; margin: 0 0 3mm; border-bottom: 1.5pt solid #0072b2; padding-bottom: 1.5mm; }
h2 { font-size: 13pt; margin: 7mm 0 2mm; break-after: avoid; }
h3 { font-size: 11.5pt; margin: 4mm 0 1mm; break-after: avoid; }
h4 { font-size: 10.5pt; margin: 3.5mm 0 1mm; color: #0072b2; break-after: avoid; }
p { margin: 0 0 2mm; }
p, .given, .formula, .line, pre, ol { break-inside: avoid; orphans: 3; widows: 3; }
.given { display: flex; flex-wrap: wrap; gap: 3mm 9mm; margin: 2mm 0 3mm 6mm; align-items: center; }
.formula, .line { margin: 1.5mm 0 2.5mm 6mm; }
math { font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math", "DejaVu Math TeX Gyre", math, serif; font-size: 1.04em; }
math[display=block] { text-align: left; display: block math; margin: 1mm 0; width: fit-content; }
/* Brackets of matrices are borders: parentheses grow only where a font for mathematics is installed. */
mrow:has(> mtable) > mo { display: none; }
mrow:has(> mtable) > mtable { border: 0 solid; border-width: 0 .09em; border-radius: .55em; padding: .12em .3em; margin: 0 .15em; }
mtd { padding: .2em .28em; }
.line > math:not(:first-child) { margin-left: 7mm; }
.remark { color: #555; font-size: 9.5pt; margin: .5mm 0 0 7mm; }
.part { margin: 2.5mm 0 1mm 8mm; text-indent: -8mm; break-after: avoid; }
.label { display: inline-block; width: 8mm; text-indent: 0; }
ol { margin: 1mm 0 2mm 8mm; padding-left: 6mm; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .92em; }
pre { background: #f4f6f8; border-left: 2pt solid #0072b2; padding: 2mm 3mm; margin: 2mm 0; white-space: pre-wrap; font-size: 9.5pt; }
.answer { border-bottom: .6pt solid #777; height: 9mm; margin: 0 0 2mm 8mm; }
@media screen { .line, .formula, .given { overflow-x: auto; } }
@media print { body { padding: 0; max-width: none; font-size: 10.5pt; } }
"""


def page(title: str, body: str) -> str:
    """A whole HTML document."""
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
            f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n")
