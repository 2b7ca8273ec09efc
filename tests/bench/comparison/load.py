"""Load on a server: as much as it bears (wrk), at a rate (from here, or h2load for latencies)."""

import json
import pathlib
import re
import selectors
import socket
import subprocess
import tempfile
import time

from .services import COMMUNITIES, PEOPLE, token

AGENT = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36'
HEADERS = {
    'Accept': 'text/html,application/xhtml+xml',
    'Accept-Language': 'en',
    'Sec-Fetch-Mode': 'navigate',
    'Sec-Fetch-Dest': 'document',
    'Sec-Fetch-Site': 'same-origin',
    'User-Agent': AGENT,
}

# Few requests are made before the first is sent, and cost nothing more. Many are made as they are sent: Lua holds each
# text once, and takes long to tell that thousands of them are different.
WRK = '''
local template, requests, next = nil, {}, FIRST
local function made(n)
    local person = n % PEOPLE
    local community = (person + (WALKING and math.floor(n / PEOPLE) or 0)) % COMMUNITIES + 1
    if PLACED then return string.format(template, community, person) end
    return string.format(template, person)
end
function init()
    wrk.headers["Cookie"] = "session_id=bench-session-%08d"
    template = wrk.format("GET", "PATH")
    if not MANY then for n = 0, PEOPLE - 1 do requests[n] = made(n) end end
end
function request()
    next = next + 1
    return MANY and made(next) or requests[next % PEOPLE]
end
'''
# Each connection waits until the next request is due.
STEADY = '''
local ffi = require("ffi")
ffi.cdef[[ typedef struct { long s, ns; } moment; int clock_gettime(int clock, moment *now); ]]
local moment, started, due = ffi.new("moment"), nil, 0
function delay()
    ffi.C.clock_gettime(1, moment)
    local now = tonumber(moment.s) * 1000 + tonumber(moment.ns) / 1000000
    started = started or now
    due = math.max(due + 1000 / RATE, now - started - 100)
    return math.max(0, math.floor(started + due - now))
end
'''
PATH = '/communities/%d/'


def saturate(port, seconds, connections=64, people=PEOPLE, path=PATH, first=0):
    """As many requests as are answered; how many in all, and refused ones are an error. The people ask in turn, after the
    first so many."""
    return _wrk(port, seconds, connections, _script(people, COMMUNITIES, path, first=first))


def steady(port, rate, seconds):
    """As many requests a second as `rate` says, or as are answered; how many in all."""
    return _wrk(port, seconds, 64, _script(PEOPLE, COMMUNITIES, PATH) + STEADY.replace('RATE', str(rate)))


def walk(port, seconds, communities, first):
    """As many requests as are answered, each of somebody who asks for another community than the last time: who has walked so
    many steps before, the `first`, asks for none of them again soon. How many in all."""
    return _wrk(port, seconds, 64, _script(PEOPLE, communities, PATH, first=first, walking=True))


def _script(people, communities, path, first=0, walking=False):
    values = {'FIRST': first, 'PEOPLE': people, 'COMMUNITIES': communities, 'PATH': path, 'PLACED': '%d' in path,
              'WALKING': walking, 'MANY': walking or people > PEOPLE}
    texts = {name: value if name == 'PATH' else json.dumps(value) for name, value in values.items()}
    return re.sub('|'.join(texts), lambda found: texts[found.group()], WRK)


def _wrk(port, seconds, connections, script):
    with tempfile.NamedTemporaryFile('w', suffix='.lua') as file:
        file.write(script)
        file.flush()
        command = ['wrk', '-t1', f'-c{connections}', f'-d{seconds}s', '-s', file.name]
        for name, value in HEADERS.items():
            command += ['-H', f'{name}: {value}']
        done = subprocess.run([*command, f'http://127.0.0.1:{port}/'], check=True, capture_output=True, text=True,
                              timeout=seconds + 30).stdout
    wrong = re.search(r'Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)', done)
    if wrong:
        raise RuntimeError(f'wrk met errors: {wrong.group(0)}')
    return int(re.search(r'(\d+) requests in', done).group(1))


def request(person, path=PATH, further=0):
    """A person's request for a page of a community, or of one so many further."""
    lines = [f'GET {path % ((person + further) % COMMUNITIES + 1)} HTTP/1.1', 'Host: 127.0.0.1',
             f'Cookie: session_id={token(person)}']
    lines += [f'{name}: {value}' for name, value in HEADERS.items()]
    return ('\r\n'.join(lines) + '\r\n\r\n').encode()


def known(port):
    """Makes everybody known, in another community than that which they ask for in `paced`."""
    return paced(port, 2_000, PEOPLE / 2_000, further=1)


def paced(port, rate, seconds, connections=8, further=0):
    """Requests at a steady rate over kept connections; how many were answered 200."""
    requests = [request(person, further=further) for person in range(PEOPLE)]
    chooser = selectors.DefaultSelector()
    free = []
    for _ in range(connections):
        connection = socket.create_connection(('127.0.0.1', port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        chooser.register(connection, selectors.EVENT_READ)
        free.append(connection)
    sent = answered = 0
    start = time.monotonic()
    while answered < rate * seconds:
        now = time.monotonic()
        while free and sent < rate * seconds and start + sent / rate <= now:
            free.pop().sendall(requests[sent % PEOPLE])
            sent += 1
        due = max(0, start + sent / rate - time.monotonic()) if free and sent < rate * seconds else 1
        for key, _ in chooser.select(due):
            text = key.fileobj.recv(65_536)
            if not text.startswith(b'HTTP/1.1 200'):
                raise RuntimeError(f'no 200: {text[:200]}')
            answered += 1
            free.append(key.fileobj)
    for key in list(chooser.get_map().values()):
        key.fileobj.close()
    return answered


def latencies(port, rate, seconds, connections=32):
    """Latencies in microseconds at a rate, in order, of every answer (h2load, one visitor)."""
    with tempfile.TemporaryDirectory() as directory:
        log = pathlib.Path(directory) / 'log'
        headers = {**HEADERS, 'Cookie': f'session_id={token(1)}'}
        command = ['h2load', '--h1', '-t1', f'-c{connections}', f'--rps={rate / connections}', f'-D{seconds}',
                   f'--log-file={log}']
        for name, value in headers.items():
            command += ['-H', f'{name}: {value}']
        subprocess.run([*command, f'http://127.0.0.1:{port}/communities/7/'], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=seconds + 30)
        lines = [line.split('\t') for line in log.read_text().splitlines()]
    if any(line[1] != '200' for line in lines):
        raise RuntimeError('h2load met other answers than 200')
    return sorted(int(line[2]) for line in lines)


def quantile(ordered, part):
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
