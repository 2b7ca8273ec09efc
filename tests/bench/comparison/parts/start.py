"""Start to first byte, memory idle and under 8,000 page views a second, Redis commands per view at that rate."""

import socket
import time

from .. import load
from ..measure import Used, resident

TITLE = 'Start, memory, and 8,000 page views a second of 1,000 people'
LIMIT = 75
RATE = 8_000


def run(world, report, options):
    binaries = {'': world.binary}
    if world.pgo:
        binaries['profile-guided: '] = world.pgo
    for _ in range(options.rounds):
        for name, binary in binaries.items():
            start(world, report, name, binary)
    for name, binary in binaries.items():
        under_load(world, report, options, name, binary)


def start(world, report, name, binary):
    before = time.monotonic()
    sidecar = world.headcount(binary=binary, first_answer=first_byte)
    took = time.monotonic() - before
    report.add(f'{name}start to the first byte of a proxied answer', 'ms', took * 1000, '≤ 40', 1)
    # What starts after the first answer is there, too.
    sidecar.ready('Headcount', lambda: sidecar.metric('headcount_build_info'))
    time.sleep(1)
    report.add(f'{name}idle memory', 'MiB', resident(sidecar), '≤ 20', 1)
    world.stack.stop(sidecar)


def under_load(world, report, options, name, binary):
    sidecar = world.headcount(binary=binary)
    load.steady(sidecar.port, RATE, 1)
    for _ in range(min(3, options.rounds)):
        commands = world.redis.commands()
        with Used(sidecar, world.redis) as used:
            requests = load.steady(sidecar.port, RATE, 2 * options.seconds)
        report.add(f'{name}page views a second that the load made', '', requests / (2 * options.seconds))
        report.add(f'{name}memory at that rate', 'MiB', resident(sidecar), '≤ 40', 1)
        commands = (world.redis.commands() - commands) / requests
        report.add(f'{name}Redis commands per view (a script is one)', '', commands, '≤ 0.02', 3)
        report.add(f"{name}sidecar's CPU per view", 'µs', used.each[0] / requests * 1e6)
    world.stack.stop(sidecar)


def first_byte(port):
    """Whether a request was answered, by whatever."""
    try:
        with socket.create_connection(('127.0.0.1', port), timeout=2) as connection:
            connection.sendall(load.request(1))
            return connection.recv(1) == b'H'
    except OSError:
        return False
