"""What was measured, as Markdown."""

import datetime
import os
import pathlib
import platform
import subprocess

from .measure import median, spread

NO_GOAL = '–'


class Figure:
    """One measured thing: a value per round, and its goal ("≤ 1.15"), if it has one."""

    def __init__(self, name, unit, values, goal, digits):
        self.name, self.unit, self.values, self.goal, self.digits = name, unit, values, goal, digits

    def met(self):
        """Whether the median is on the right side of the goal."""
        sign, _, limit = self.goal.partition(' ')
        return median(self.values) <= float(limit) if sign == '≤' else median(self.values) >= float(limit)

    def shown(self, value):
        text = f'{value:.{self.digits}f}' if self.digits is not None else number(value)
        return f'{text} {self.unit}'.rstrip()

    def cells(self):
        low, high = spread(self.values)
        return f'{self.shown(median(self.values))} | {self.shown(low)} – {self.shown(high)} | {len(self.values)}'


class Part:
    """Figures of one part, in the order in which they came."""

    def __init__(self, title):
        self.title = title
        self.rows = {}
        self.problem = None

    def add(self, name, unit, value, goal=NO_GOAL, digits=None):
        """One value; those of one name are its rounds."""
        self.rows.setdefault(name, Figure(name, unit, [], goal, digits)).values.append(value)

    def extend(self, name, unit, values, goal=NO_GOAL, digits=None):
        for value in values:
            self.add(name, unit, value, goal, digits)

    def ratio(self, name, over, under, goal=NO_GOAL, digits=2):
        """Ratios within each round, so that a machine that gets slower does not show in them."""
        self.extend(name, '', [a / b for a, b in zip(over, under)], goal, digits)

    def goals(self):
        return [figure for figure in self.rows.values() if figure.goal != NO_GOAL]

    def markdown(self):
        lines = [f'## {self.title}', '']
        if self.problem:
            lines += [f'Not all of it was measured: {self.problem}', '']
        lines += ['| | median | smallest – largest | rounds |', '|---|---|---|---|']
        lines += [f'| {figure.name} | {figure.cells()} |' for figure in self.rows.values()]
        return '\n'.join(lines)


def goals(parts):
    """The table of what has a goal."""
    lines = ['## Goals', '', '| | goal | median | smallest – largest | rounds | |', '|---|---|---|---|---|---|']
    lines += [f'| {figure.name} | {figure.goal} {figure.unit}'.rstrip() + f' | {figure.cells()} | '
              + ('met |' if figure.met() else 'missed |') for part in parts for figure in part.goals()]
    return '\n'.join(lines)


def number(value):
    return f'{value:,.0f}' if abs(value) >= 1_000 else f'{value:.3g}' if abs(value) < 10 else f'{value:.1f}'


def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def about(binary, profile, postgres):
    """Date, machine, versions and load."""
    model = next((line.split(':', 1)[1].strip() for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines()
                  if line.startswith('model name')), platform.machine())
    versions = [
        f'{first_line(binary, "--version")} ({profile}, {os.path.getsize(binary) / 1e6:.1f} MB)',
        first_line('/usr/sbin/nginx', '-v').split(': ')[-1],
        ' '.join(first_line('/usr/sbin/haproxy', '-v').split()[:3]),
        first_line(postgres, '--version'),
        ' '.join(first_line('redis-server', '--version').split()[:3]),
    ]
    return (f'{datetime.date.today()}, {os.cpu_count()} cores ({model}), Linux {platform.release()}; '
            + '; '.join(versions) + '. Load before: ' + ' '.join(f'{load:.1f}' for load in os.getloadavg()) + '.')
