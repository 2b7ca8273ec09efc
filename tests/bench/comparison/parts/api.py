"""The visitors list: 50 of 50,000 who are present."""

import json
import urllib.request

from .. import load, services
from ..measure import Used

TITLE = 'GET /api/communities/{id}/visitors?limit=50, with 50,000 present'
LIMIT = 90
PRESENT = 50_000


def run(world, report, options):
    world.postgres.people(PRESENT)
    sidecar = world.headcount(record='window = "1h"\nevents = false', sections='[session]\ncache_capacity = 200000\n')
    asked = 0
    while count(sidecar) < PRESENT:
        asked += load.saturate(sidecar.port, 3, people=PRESENT, path='/communities/7/', first=asked)
    for _ in range(options.rounds):
        with Used(sidecar, world.redis, world.postgres) as used:
            requests = load.saturate(sidecar.port, options.seconds, path='/api/communities/7/visitors?limit=50')
        sidecar_, redis, postgres = (each / requests * 1e6 for each in used.each)
        report.add('visitors list, 50 of 50,000: CPU of the sidecar per request', 'µs', sidecar_, '≤ 100')
        report.add("Redis' CPU per request", 'µs', redis)
        report.add("Postgres' CPU per request", 'µs', postgres)
        report.add('requests per second', '', requests / options.seconds)


def count(sidecar):
    """How many the API says are present."""
    request = urllib.request.Request(
        f'http://127.0.0.1:{sidecar.port}/api/communities/7/visitors/count',
        headers={'Cookie': f'session_id={services.token(1)}'})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)['current_visitors']
