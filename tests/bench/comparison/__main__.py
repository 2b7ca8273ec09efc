"""The parts of the comparison, one after the other."""

import argparse
import importlib
import pathlib
import time

from . import report
from .services import Stack

PARTS = ('proxy', 'record', 'writer', 'api', 'live', 'start')


def main():
    parser = argparse.ArgumentParser(prog='tests/bench/compare', description=__doc__)
    parser.add_argument('parts', nargs='*', metavar='PART', help=f'of {", ".join(PARTS)}; all by default')
    parser.add_argument('--rounds', type=int, default=5, help='of each measurement, in turn (default 5)')
    parser.add_argument('--seconds', type=int, default=3, help='that one saturated run takes (default 3)')
    parser.add_argument('--out', type=pathlib.Path, help='folder for RESULTS.md and results.svg; by default the '
                        'results of all parts go to tests/bench, those of some parts are printed only')
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f'no such part: {", ".join(sorted(unknown))}')
    about = report.about()
    texts = ['# Results', '', 'Written by `tests/bench/compare`; how it measures: [README.md](README.md).', '', about]
    start = time.monotonic()
    svg = None
    for name in options.parts or PARTS:
        module = importlib.import_module(f'.parts.{name}', __package__)
        part = report.Part(module.TITLE)
        with Stack() as stack:
            module.run(stack, part, options)
        text = part.markdown()
        print(text, end='\n\n', flush=True)
        texts += ['', text]
        if name == 'proxy':
            svg = report.picture(part.rows)
            texts += ['', '![CPU per request](results.svg)']
    texts += ['', f'All of it took {time.monotonic() - start:.0f} s.', '']
    out = options.out or (None if options.parts else pathlib.Path(__file__).resolve().parents[1])
    if out:
        (out / 'RESULTS.md').write_text('\n'.join(texts))
        if svg:
            (out / 'results.svg').write_text(svg)
    print(about)


main()
