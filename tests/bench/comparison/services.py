"""A server that is started for a while: in a folder of its own, ended with whatever started it."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BENCH = REPOSITORY / 'tests/bench'
BACKEND = REPOSITORY / 'tests/backend'
START_LIMIT = 60
STOP_LIMIT = 10

# Requests of the proxies' comparison: so many people, each in one of so many communities.
PEOPLE = 1_000
COMMUNITIES = 50


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def token(person):
    """The session cookie's value of a person."""
    return f'bench-session-{person:08d}'


def venv(name):
    """A program of the Python environment that runs this."""
    return str(pathlib.Path(sys.executable).parent / name)


def answers(url):
    """Whether the URL answers, with whatever status."""
    try:
        urllib.request.urlopen(url, timeout=2).read()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def wait_until(what, condition, limit=START_LIMIT, every=0.02):
    """Waits for a condition; an error that names it if it does not come."""
    until = time.monotonic() + limit
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f'waited {limit} s for {what}')
        time.sleep(every)


class Service:
    """A process with a folder of its own, stopped when the folder goes. It gets `stop_signal` when it is no longer
    wanted, and from the kernel when this process ends without having stopped it."""

    stop_signal = signal.SIGTERM

    def __init__(self, name, command, environment=None, as_user=None, files=None):
        self.name = name
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f'{name}-'))
        for path, text in (files or {}).items():
            target = self.directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        user = []
        if as_user and os.getuid() == 0:
            shutil.chown(self.directory, as_user)
            user = [f'--reuid={as_user}', f'--regid={as_user}', '--init-groups']
        self.log = open(self.directory / 'log', 'wb')
        self.process = subprocess.Popen(
            ['setpriv', f'--pdeathsig={self.stop_signal.name.removeprefix("SIG")}', *user, *map(str, command)],
            cwd=self.directory, env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)

    @property
    def pid(self):
        return self.process.pid

    def ready(self, what, condition, every=0.02):
        """Waits until it serves; shows its log if it does not."""
        def checked():
            if self.process.poll() is not None:
                raise RuntimeError(f'{self.name} has ended:\n{self.text()}')
            return condition()
        try:
            wait_until(what, checked, every=every)
        except TimeoutError as error:
            raise RuntimeError(f'{error}; {self.name} says:\n{self.text()}') from None
        return self

    def text(self):
        return (self.directory / 'log').read_text(errors='replace')[-3_000:]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class Stack:
    """Services that were started, stopped in the opposite order."""

    def __init__(self):
        self.services = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        while self.services:
            self.services.pop().stop()

    def add(self, service):
        self.services.append(service)
        return service

    def stop(self, service):
        self.services.remove(service)
        service.stop()
