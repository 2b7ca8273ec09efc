"""Live connections: memory of each, and what one change costs that all of them are told. Presence: what it costs that people
are seen in communities where they were not."""

import resource
import selectors
import socket
import time

from .. import load, services
from ..measure import Used, resident, threads

TITLE = 'Live connections (WebSockets on one community), and touches of 1,000 communities'
LIMIT = 90
CONNECTIONS = 10_000
COMMUNITIES = 1_000
# Between two looks of the worker that touches, in seconds.
LOOK = 0.1
# Presence alone is recorded.
PRESENCE = '''events = false
pages_visited = false
last_active = false'''


def run(world, report, options):
    live(world, report, options)
    touches(world, report, options)


def live(world, report, options):
    # A sidecar lets no more connections be live than three quarters of half its open files, less a reserve: several share
    # them where it may not open enough.
    files = open_files(5 * CONNECTIONS)
    count = min(CONNECTIONS, files - 500)
    sidecars = -(-count // (files * 36 // 100))
    each = -(-count // sidecars)
    settings = f'''
[live]
max_connections = {each}
max_per_user = {each}
max_per_address = {each}
min_interval = "0s"
heartbeat = false
[limits]
max_connections = {each * 2}
'''
    all_of_them = [world.headcount(sections=settings, prefix='live') for _ in range(sidecars)]
    for sidecar in all_of_them:
        load.saturate(sidecar.port, 1, people=1)
    before = sum(map(resident, all_of_them))
    connections = selectors.DefaultSelector()
    with Used(*all_of_them) as used:
        for place in range(count):
            connections.register(opened(all_of_them[place % sidecars].port), selectors.EVENT_READ)
    report.add('connections', '', count)
    report.add('sidecars that have them', '', sidecars)
    report.add('CPU to open one', 'µs', used.seconds / count * 1e6)
    report.add('memory per connection', 'KiB', (sum(map(resident, all_of_them)) - before) * 1024 / count)
    # Each change is a visitor who was not there before.
    for person in range(2, 2 + max(5, options.rounds)):
        first = None
        with Used(*all_of_them) as used:
            start = time.monotonic()
            with socket.create_connection(('127.0.0.1', all_of_them[0].port)) as visitor:
                visitor.sendall(load.request(person, '/communities/7/?%d'))
                visitor.recv(65_536)
                told = 0
                while told < count:
                    for key, _ in connections.select(60):
                        first = first or time.monotonic() - start
                        key.fileobj.recv(65_536)
                        told += 1
                took = time.monotonic() - start
        report.add('CPU per message to one connection', 'µs', used.seconds / count * 1e6)
        report.add('from the request until the first has read it', 'ms', first * 1000)
        report.add('until the last has (reading takes much of it)', 'ms', took * 1000)
    for key in list(connections.get_map().values()):
        key.fileobj.close()
    for sidecar in all_of_them:
        world.stack.stop(sidecar)


def touches(world, report, options):
    sidecar = world.headcount(record=PRESENCE)
    load.saturate(sidecar.port, 1)
    walked = 0
    for round in range(1 + min(3, options.rounds)):
        touched, background = sidecar.metric('headcount_presence_touches_total'), threads(sidecar, 'background')
        with Used(world.redis) as used:
            requests = load.walk(sidecar.port, options.seconds, COMMUNITIES, walked)
            time.sleep(10 * LOOK)
        touched = sidecar.metric('headcount_presence_touches_total') - touched
        background = threads(sidecar, 'background') - background
        walked += (requests // services.PEOPLE + 1) * services.PEOPLE
        # The first round makes the communities.
        if round > 0:
            report.add('touched communities per look of 100 ms', '', touched / options.seconds * LOOK)
            report.add("sidecar's background CPU per touched community", 'µs', background / touched * 1e6)
            report.add("Redis' CPU per touched community", 'µs', used.seconds / touched * 1e6)


def open_files(wanted):
    """Raises the limit of open files, for this process and those it starts, as far as it may; the limit."""
    for limit in (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
        except (OSError, ValueError):
            pass
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def opened(port):
    """A WebSocket that has had its first message."""
    connection = socket.create_connection(('127.0.0.1', port))
    connection.sendall((
        'GET /api/communities/7/visitors/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n'
        'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
        f'Cookie: session_id={services.token(1)}\r\n\r\n').encode())
    text = b''
    while b'current_visitors' not in text:
        more = connection.recv(4_096)
        if not more:
            raise RuntimeError(f'no live connection: {text.decode()}')
        text += more
    return connection
