"""Measures Headcount beside what one would run instead: the parts of the comparison, one after the other."""

import argparse
import datetime
import importlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

from . import build, report, services, summary
from .postgres import Postgres
from .proxies import World
from .redis import Redis

PARTS = ('proxy', 'record', 'writer', 'api', 'live', 'start')
# Only where they are asked for: load for a binary that counts what it runs (tests/bench/pgo).
FURTHER = ('train',)


def main():
    options = arguments()
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: sys.exit(1))
    signal.signal(signal.SIGALRM, out_of_time)
    binary = (options.binary or build.headcount(options.profile)).resolve()
    bare = None
    if 'proxy' in (options.parts or PARTS):
        bare = (options.bare_pingora or build.bare_pingora(options.profile)).resolve()
    # Folders of all servers, removed in whatever way this ends.
    tempfile.tempdir = tempfile.mkdtemp(prefix='headcount-bench-')
    os.chmod(tempfile.tempdir, 0o711)
    try:
        return compare(options, binary, bare)
    finally:
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)


def compare(options, binary, bare):
    start = time.monotonic()
    parts, texts, pictures = [], [], {}
    with services.Stack() as stack:
        postgres, redis = stack.add(Postgres(binary)), stack.add(Redis())
        profile = 'given binary' if options.binary else f'profile {options.profile}'
        about = report.about(binary, profile, postgres.binaries / 'postgres')
        if options.pgo:
            about = about.replace('; nginx/', f'; its profile-guided binary, {os.path.getsize(options.pgo) / 1e6:.1f} MB; nginx/')
        world = World(postgres.prepare(), redis.prepare(), binary, bare, options.pgo and options.pgo.resolve())
        world.origin(stack)
        for name in options.parts or PARTS:
            module = importlib.import_module(f'.parts.{name}', __package__)
            part = report.Part(module.TITLE)
            rest = options.limit - (time.monotonic() - start)
            signal.alarm(max(1, round(min(module.LIMIT, rest))))
            try:
                with services.Stack() as own:
                    module.run(world.part(own), part, options)
            except Exception as error:  # Whatever it is: the other parts are measured still.
                part.problem = f'{type(error).__name__}: {error}'
            finally:
                signal.alarm(0)
            parts.append(part)
            texts += ['', part.markdown()]
            if hasattr(module, 'picture') and not part.problem:
                pictures['results.svg'] = module.picture(part)
                texts += ['', f'![{module.PICTURE}](results.svg)']
            print(part.markdown(), end='\n\n', flush=True)
    took = f'All of it took {time.monotonic() - start:.0f} s.'
    print(report.goals(parts), about, took, sep='\n\n')
    out = options.out or (None if options.parts else services.BENCH)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        short = summary.summary(parts, datetime.date.today(), os.cpu_count())
        if out == services.BENCH and short:
            summary.quote(short)
        head = ['# Results', '', 'Written by `tests/bench/compare`; how it measures: [README.md](README.md).', '', about,
                f'{options.rounds} rounds. {took}', '', short, '', report.goals(parts)]
        (out / 'RESULTS.md').write_text('\n'.join([*head, *texts, '']))
        for name, svg in pictures.items():
            (out / name).write_text(svg)
    return 1 if any(part.problem for part in parts) else 0


def out_of_time(*_):
    raise TimeoutError('it took longer than it may')


def arguments():
    parser = argparse.ArgumentParser(prog='tests/bench/compare', description=__doc__)
    parser.add_argument('parts', nargs='*', metavar='PART', help=f'of {", ".join(PARTS)}; all of these by default; '
                        f'{", ".join(FURTHER)}: load, and no comparison')
    parser.add_argument('--rounds', type=int, default=5, help='of each measurement, in turn (default 5)')
    parser.add_argument('--seconds', type=int, default=2, help='that one saturated run takes (default 2)')
    parser.add_argument('--limit', type=int, default=600, metavar='SECONDS',
                        help='that all parts may take, building apart (default 600)')
    parser.add_argument('--binary', type=pathlib.Path, help='of Headcount; built by default')
    parser.add_argument('--pgo', type=pathlib.Path, metavar='BINARY',
                        help='a profile-guided binary of Headcount (tests/bench/pgo), measured in the same rounds')
    parser.add_argument('--bare-pingora', type=pathlib.Path, help='of bare Pingora; built by default')
    parser.add_argument('--profile', default='release', help='to build with (default release; `bench` is built sooner)')
    parser.add_argument('--out', type=pathlib.Path, help='folder for RESULTS.md and results.svg; by default the '
                        'results of all parts go to tests/bench, and some of them into README; those of some parts are printed only')
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS + FURTHER)
    if unknown:
        parser.error(f'no such part: {", ".join(sorted(unknown))}')
    return options


sys.exit(main())
