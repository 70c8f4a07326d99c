"""The report's page: one HTML file that needs no network."""

import html
import json

from report.figures import figures
from report.table import NFE
from report.tables import TABLES, rows_of

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;font-size:13px}td,th{border-bottom:1px solid #ddd;padding:.25em .6em}
.grid{display:flex;flex-wrap:wrap;gap:1em}.grid figure{margin:0;font-size:12px;width:200px}
.grid img{width:200px;image-rendering:pixelated}svg{max-width:100%;height:auto}"""
SCRIPT = """const nfes=%s,grids=%s,slider=document.getElementById('nfe');
function show(){const n=nfes[slider.value];document.getElementById('shown').textContent=n;
for(const img of document.querySelectorAll('[data-run]'))
img.src='data:image/png;base64,'+grids[img.dataset.run][n]}
slider.oninput=show;show()"""


def page(results):
    """Return the page as text."""
    parts = ["<h1>loomfast: results</h1>", _grids(results)]
    parts += [f"<section>{svg[svg.index('<svg') :]}</section>" for svg in figures(results).values()]
    parts += [f"<h2>Trajectories in the plane (seed 0)</h2><div class='grid'>{_lines(results)}</div>"]
    parts += [f"<h2>{html.escape(name)}</h2>{_table(make(results))}" for name, make in TABLES.items()]
    head = "<!doctype html><html lang='en'><meta charset='utf-8'><title>loomfast</title>"
    head += f"<style>{STYLE}</style>"
    return head + "\n".join(parts) + f"<script>{_script(results)}</script></html>\n"


def _pictured(results):
    """Return {title: {nfe: PNG in base64}} of the first seed of each coupling that has all of them."""
    found = {}
    for (_, title), jobs in rows_of("couplings").items():
        pictures = results.get(jobs[0].name, {}).get("pictures", {})
        if all(str(n) in pictures for n in NFE):
            found[title] = pictures
    return found


def _grids(results):
    cells = "".join(
        f"<figure><img data-run='{html.escape(title)}' alt=''><figcaption>{html.escape(title)}</figcaption>"
        "</figure>"
        for title in _pictured(results)
    )
    return (
        "<h2>The same noise through each network</h2><label>function evaluations: <b id='shown'></b> "
        f"<input id='nfe' type='range' min='0' max='{len(NFE) - 1}' value='0'></label>"
        f"<div class='grid'>{cells}</div>"
    )


def _script(results):
    return SCRIPT % (json.dumps(NFE), json.dumps(_pictured(results)))


def _table(markdown):
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.split("\n")]
    cells = [_row("th", head), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(cells)}</table>"


def _row(tag, cells):
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _lines(results):
    drawn = []
    for (task, title), jobs in rows_of("plane").items():
        if jobs[0].name not in results:
            continue
        paths = zip(*results[jobs[0].name]["lines"], strict=True)
        lines = "".join(
            f"<polyline points='{' '.join(f'{x},{-y}' for x, y in path)}'/>"
            f"<circle cx='{path[-1][0]}' cy='{-path[-1][1]}' r='.09'/>"
            for path in paths
        )
        drawn.append(
            "<figure><svg viewBox='-8 -8 16 16' width='200' fill='none' stroke='#999' stroke-width='.03'>"
            f"{lines}</svg><figcaption>{html.escape(f'{task[0]} → {task[1]}, {title}')}</figcaption></figure>"
        )
    return "".join(drawn)
