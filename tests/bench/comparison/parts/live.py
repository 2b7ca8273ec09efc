"""Live connections: memory of each, and what one change costs that all of them are told."""

import resource
import selectors
import socket
import time

from .. import load, services
from ..measure import Used, resident

TITLE = 'Live connections (WebSockets on one community)'
LIMIT = 75
CONNECTIONS = 10_000


def run(world, report, options):
    # A sidecar lets no more connections be live than three quarters of half its open files, less a reserve.
    count = min(CONNECTIONS, open_files(5 * CONNECTIONS) * 36 // 100)
    sidecar = world.headcount(sections=f'''
[live]
max_connections = {count}
max_per_user = {count}
max_per_address = {count}
min_interval = "0s"
heartbeat = false
[limits]
max_connections = {count * 2}
''')
    load.saturate(sidecar.port, 1, people=1)
    before = resident(sidecar)
    connections = selectors.DefaultSelector()
    with Used(sidecar) as used:
        for _ in range(count):
            connections.register(opened(sidecar.port), selectors.EVENT_READ)
    report.add('connections', '', count)
    report.add('CPU to open one', 'µs', used.seconds / count * 1e6)
    report.add('memory per connection', 'KiB', (resident(sidecar) - before) * 1024 / count)
    # Each change is a visitor who was not there before.
    for person in range(2, 2 + max(5, options.rounds)):
        with Used(sidecar) as used:
            start = time.monotonic()
            with socket.create_connection(('127.0.0.1', sidecar.port)) as visitor:
                visitor.sendall(load.request(person, '/communities/7/?%d'))
                visitor.recv(65_536)
                told = 0
                while told < count:
                    for key, _ in connections.select(60):
                        key.fileobj.recv(65_536)
                        told += 1
                took = time.monotonic() - start
        report.add('CPU per message to one connection', 'µs', used.seconds / count * 1e6)
        report.add('until all have read it (reading takes most of it)', 'ms', took * 1000)
    for key in list(connections.get_map().values()):
        key.fileobj.close()


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
