"""Redis, and the few commands that the comparison asks it."""

import socket

from .services import PEOPLE, Service, free_port, token


class Redis(Service):
    """A server that keeps nothing on disk."""

    def __init__(self):
        self.port = free_port()
        super().__init__('redis', [
            'redis-server', '--port', self.port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'])

    def prepare(self):
        return self.ready('Redis', lambda: self.answers())

    def answers(self):
        try:
            return self.command('PING') == b'+PONG'
        except OSError:
            return False

    def fresh(self):
        self.command('FLUSHALL')

    def command(self, *words):
        """One command; the first line of its answer, or the whole of a text."""
        with socket.create_connection(('127.0.0.1', self.port), timeout=5) as connection:
            parts = [f'*{len(words)}\r\n']
            parts += [f'${len(word)}\r\n{word}\r\n' for word in map(str, words)]
            connection.sendall(''.join(parts).encode())
            file = connection.makefile('rb')
            line = file.readline().rstrip()
            return file.read(int(line[1:])) if line.startswith(b'$') else line

    def commands(self):
        """How many it has been sent so far by those who send scripts: what a script does in turn is not among them."""
        sent = 0
        for line in self.command('INFO', 'commandstats').decode().splitlines():
            name, _, values = line.partition(':')
            if name.removeprefix('cmdstat_') in ('evalsha', 'eval', 'ping'):
                sent += int(values.split('calls=')[1].split(',')[0])
        return sent

    def sessions(self):
        """What the Lua script looks up."""
        for person in range(PEOPLE):
            self.command('SET', f'session:{token(person)}', person + 1)
