"""Start to first answer, and memory: idle and under 8,000 page views a second."""

import time

from .. import load
from ..measure import resident

TITLE = 'Start and memory'


def run(stack, report, options):
    postgres, redis, origin = stack.postgres(), stack.redis(), stack.origin()
    for _ in range(options.rounds):
        sidecar, took = started(stack, origin, postgres, redis)
        report.add('start to the first answer', 'ms', took * 1000)
        time.sleep(1)
        report.add('idle memory', 'MiB', resident(sidecar))
        stack.stop(sidecar)
    sidecar, _ = started(stack, origin, postgres, redis)
    for _ in range(min(2, options.rounds)):
        load.latencies(sidecar.port, 8_000, options.seconds * 2)
        report.add('memory under 8,000 requests/s, or as many as are answered', 'MiB', resident(sidecar))


def started(stack, origin, postgres, redis):
    """A sidecar, and the seconds until it had answered a request."""
    before = time.monotonic()
    sidecar = stack.headcount(origin, postgres, redis, first_answer=True)
    return sidecar, time.monotonic() - before
