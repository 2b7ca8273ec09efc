"""Proxied pages with recording off and on, as a binary that counts what it runs is to see them: nothing is compared."""

from .. import load
from ..proxies import OFF

TITLE = 'Proxied page views, to be counted'
LIMIT = 120


def run(world, report, options):
    for record in (OFF, ''):
        # A sidecar of its own, as what it counts is written when it ends.
        sidecar = world.headcount(record=record)
        load.paced(sidecar.port, 100, 3)
        load.known(sidecar.port)
        load.paced(sidecar.port, 1_000, 2)
        requests = sum(load.saturate(sidecar.port, options.seconds) for _ in range(3))
        sidecar.drained()
        world.stack.stop(sidecar)
        report.add(f'requests, recording {"off" if record else "on"}', '', requests)
