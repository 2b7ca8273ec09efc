"""The binaries that are compared, built by Cargo."""

import json
import pathlib
import subprocess

from .services import REPOSITORY


def headcount(profile):
    return _built(profile, '--bin', 'headcount')


def bare_pingora(profile):
    return _built(profile, '--bench', 'bare_pingora')


def _built(profile, kind, name):
    """Builds one target; the path that Cargo tells."""
    done = subprocess.run(
        ['cargo', 'build', '--locked', '--quiet', '--profile', profile, kind, name, '--message-format=json'],
        cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout
    for message in map(json.loads, done.splitlines()):
        if message['reason'] == 'compiler-artifact' and message['target']['name'] == name and message['executable']:
            return pathlib.Path(message['executable'])
    raise RuntimeError(f'cargo built no {name}')
