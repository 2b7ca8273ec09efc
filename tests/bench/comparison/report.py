"""What was measured: as it comes, as a Markdown file, and as a picture of the proxies."""

import datetime
import html
import os
import pathlib
import platform
import subprocess

from .measure import median, spread


class Part:
    """Rows of one part, in the order in which they came."""

    def __init__(self, title):
        self.title = title
        self.rows = {}
        self.ratios = []

    def add(self, name, unit, value):
        self.rows.setdefault((name, unit), []).append(value)

    def extend(self, name, unit, values):
        for value in values:
            self.add(name, unit, value)

    def ratio(self, name, over, under, goal, digits=2):
        """Ratios within each round, so that a machine that gets slower does not show in them."""
        self.ratios.append((name, [a / b for a, b in zip(over, under)], goal, digits))

    def markdown(self):
        lines = [f'## {self.title}', '', '| | median | smallest – largest | rounds |', '|---|---|---|---|']
        for (name, unit), values in self.rows.items():
            low, high = spread(values)
            lines.append(
                f'| {name} | {number(median(values))} {unit} | {number(low)} – {number(high)} | {len(values)} |')
        if self.ratios:
            lines += ['', '| ratio, per round | median | smallest – largest | goal |', '|---|---|---|---|']
            for name, values, goal, digits in self.ratios:
                low, high = spread(values)
                lines.append(f'| {name} | **{median(values):.{digits}f}** | {low:.{digits}f} – {high:.{digits}f} | {goal} |')
        return '\n'.join(lines)


def number(value):
    return f'{value:,.0f}' if abs(value) >= 1_000 else f'{value:.3g}' if abs(value) < 10 else f'{value:.1f}'


def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def about():
    """Date, machine and versions."""
    model = next((line.split(':', 1)[1].strip() for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines()
                  if line.startswith('model name')), platform.machine())
    versions = [
        first_line(os.environ['HEADCOUNT_BINARY'], '--version'),
        first_line('/usr/sbin/nginx', '-v').split(': ')[-1],
        ' '.join(first_line('/usr/sbin/haproxy', '-v').split()[:3]),
        first_line('redis-server', '--version').split(' sha')[0],
    ]
    return (f'{datetime.date.today()}, {os.cpu_count()} cores ({model}), Linux {platform.release()}; '
            + '; '.join(versions) + '. Load before: ' + ' '.join(f'{load:.1f}' for load in os.getloadavg()) + '.')


def picture(rows):
    """Bars of medians with their spread, as SVG."""
    rows = [(name, values) for (name, unit), values in rows.items() if unit == 'µs' and 'saturated' in name]
    most = max(max(values) for _, values in rows)
    parts = []
    for index, (name, values) in enumerate(rows):
        y = 40 + index * 34
        low, high = (340 + 400 * value / most for value in spread(values))
        middle = 400 * median(values) / most
        fill = '#2563eb' if name.startswith('Headcount') else '#94a3b8'
        label = html.escape(name.split(', saturated')[0])
        parts.append(
            f'<text x="330" y="{y + 15}" text-anchor="end">{label}</text>'
            f'<rect x="340" y="{y}" width="{middle:.0f}" height="20" fill="{fill}"/>'
            f'<path d="M{low:.0f} {y + 10}H{high:.0f}" stroke="#0f172a" stroke-width="2"/>'
            f'<text x="{high + 8:.0f}" y="{y + 15}">{median(values):.1f}</text>')
    height = 60 + len(rows) * 34
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 {height}" font-family="sans-serif" '
            f'font-size="14"><rect width="820" height="{height}" fill="#fff"/>'
            '<text x="20" y="24" font-weight="bold">CPU of the proxy per request, saturated, in µs '
            '(bar: median; line: smallest to largest)</text>' + ''.join(parts) + '</svg>\n')
