"""A picture of the proxies: bars of medians with their spread, readable on light and on dark pages."""

import html

from .measure import median, spread

ROW = 34
LEFT = 250
WIDTH = 480

# An image on a page does not get the page's colour: it asks the browser which of the two there is.
STYLE = '''svg{color:#1f2328}@media (prefers-color-scheme:dark){svg{color:#e6edf3}}
text{fill:currentColor}.others{fill:currentColor;opacity:.35}.ours{fill:#2f81f7}.spread{stroke:currentColor}'''


def bars(title, rows):
    """SVG of named values."""
    most = max(max(values) for values in rows.values())
    height = 56 + len(rows) * ROW
    parts = [f'<text x="12" y="24" font-weight="bold">{html.escape(title)}</text>']
    for index, (name, values) in enumerate(rows.items()):
        y = 44 + index * ROW
        low, high = (LEFT + WIDTH * value / most for value in spread(values))
        middle = WIDTH * median(values) / most
        kind = 'ours' if name.startswith('Headcount') else 'others'
        parts.append(
            f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{middle:.0f}" height="20"/>'
            f'<path class="spread" d="M{low:.0f} {y + 10}H{high:.0f}M{low:.0f} {y + 6}v8M{high:.0f} {y + 6}v8"'
            ' stroke-width="1.5"/>'
            f'<text x="{high + 8:.0f}" y="{y + 15}">{median(values):.1f}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 70} {height}" '
            f'font-family="sans-serif" font-size="14" role="img"><title>{html.escape(title)}</title>'
            f'<style>{STYLE}</style>\n' + '\n'.join(parts) + '\n</svg>\n')
