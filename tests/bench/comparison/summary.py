"""The few figures that the project's README quotes, between two marks there and in RESULTS.md."""

import re

from .measure import median
from .services import REPOSITORY

START, END = '<!-- measured -->', '<!-- /measured -->'


def summary(parts, day, cores):
    """A paragraph of all parts' figures; nothing where one of them is missing."""
    figures = {name: median(figure.values) for part in parts for name, figure in part.rows.items()}

    def proxy(name):
        return f'{figures[name + ", saturated"]:.0f} µs'

    def times(name):
        return f'1/{1 / figures["one recorded view, CPU of app and database: Headcount / " + name]:.0f}'

    try:
        own, tracking2 = times("the app's own middleware"), times('django-tracking2')
        return (
            f'{START}\nCPU per proxied request, measured {day} on {cores} cores: {proxy("Headcount, recording on")} with '
            f'its page view recorded, {proxy("Headcount, recording off")} without; nginx {proxy("nginx")}, bare Pingora '
            f'{proxy("bare Pingora")}, nginx with Lua and Redis {proxy("nginx with Lua and Redis")}. A recorded view '
            f'takes {own} of the CPU that a middleware in Django takes for it, database included, and {tracking2} of '
            f'what django-tracking2 takes.\n{END}')
    except KeyError:
        return ''


def quote(text):
    """Puts the paragraph into README, in the place of the last one."""
    readme = REPOSITORY / 'README.md'
    former = readme.read_text()
    readme.write_text(re.sub(f'{START}.*?{END}', lambda _: text, former, flags=re.DOTALL))
