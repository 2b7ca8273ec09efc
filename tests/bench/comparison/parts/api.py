"""The visitors list: 50 of 50,000 who are present."""

import json
import urllib.request

from .. import load, services
from ..measure import Used

TITLE = 'GET /api/communities/{id}/visitors?limit=50, with 50,000 present'
PRESENT = 50_000


def run(stack, report, options):
    postgres, redis, origin = stack.postgres(), stack.redis(), stack.origin()
    postgres.people(PRESENT)
    sidecar = stack.headcount(origin, postgres, redis, record='window = "1h"\nevents = false', sections=(
        '[session]\ncache_capacity = 200000\n'))
    done = 0
    while done < PRESENT * 1.2:
        done += load.saturate(sidecar.port, 5, people=PRESENT, path='/communities/7/')
    services.wait_until('all to be present', lambda: count(sidecar) == PRESENT, 120)
    for _ in range(options.rounds):
        with Used(sidecar) as used:
            requests = load.saturate(
                sidecar.port, options.seconds, path='/api/communities/7/visitors?limit=50')
        report.add('CPU of the sidecar per request', 'µs', used.seconds / requests * 1e6)
        report.add('requests per second', '1/s', requests / options.seconds)


def count(sidecar):
    """How many the API says are present."""
    request = urllib.request.Request(
        f'http://127.0.0.1:{sidecar.port}/api/communities/7/visitors/count',
        headers={'Cookie': f'session_id={services.token(1)}'})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)['current_visitors']
