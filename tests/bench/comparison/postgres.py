"""Postgres with the app's tables, Headcount's own, and people who are signed in."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from .services import BACKEND, COMMUNITIES, PEOPLE, Service, free_port, venv


class Postgres(Service):
    """A server whose database is made once and copied for each part of the comparison."""

    stop_signal = signal.SIGINT

    def __init__(self, binary):
        binaries = max(pathlib.Path('/usr/lib/postgresql').glob('*/bin'), key=lambda path: int(path.parent.name))
        self.binaries = binaries
        self.port = free_port()
        self.data = tempfile.mkdtemp(prefix='data-')
        as_postgres = []
        if os.getuid() == 0:
            shutil.chown(self.data, 'postgres')
            as_postgres = ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups']
        subprocess.run(
            [*as_postgres, binaries / 'initdb', '--no-sync', '-A', 'trust', '-U', 'postgres', '-D', self.data],
            check=True, cwd=self.data, stdout=subprocess.DEVNULL)
        super().__init__('postgres', [
            binaries / 'postgres', '-D', self.data, '-p', self.port, '-c', f'unix_socket_directories={self.data}',
            '-c', 'listen_addresses=127.0.0.1', '-c', 'max_connections=200', '-c', 'max_wal_size=4GB',
            '-c', 'autovacuum=off'], as_user='postgres')
        self.binary = binary
        self.database = 'postgres'
        self.copies = 0

    @property
    def url(self):
        """Of the database in use."""
        return f'postgres://postgres@127.0.0.1:{self.port}/{self.database}'

    def prepare(self):
        """Waits for the server and makes the database that is copied."""
        self.ready('Postgres', self._answers)
        self.sql('CREATE DATABASE site')
        self.database = 'site'
        subprocess.run(
            [venv('python'), 'manage.py', 'migrate', '--no-input', '--verbosity', '0'], cwd=BACKEND, check=True,
            env={**os.environ, 'BACKEND_DB': self.url})
        self.people(PEOPLE)
        config = self.directory / 'headcount.toml'
        config.write_text(f'[database]\nurl = "{self.url}"\n[upstream]\nservers = ["127.0.0.1:1"]\n')
        done = subprocess.run(
            [self.binary, 'migrate', '--config', config], check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f'headcount migrate: {done.stdout}{done.stderr}')
        return self

    def fresh(self):
        """A database that nobody has written to."""
        former, self.database = self.database, 'postgres'
        if former != 'site':
            self.sql(f'DROP DATABASE {former} WITH (FORCE)')
        self.copies += 1
        self.sql(f'CREATE DATABASE site{self.copies} TEMPLATE site')
        self.sql('CHECKPOINT')
        self.database = f'site{self.copies}'

    def _answers(self):
        return subprocess.run(
            [self.binaries / 'pg_isready', '-q', '-h', '127.0.0.1', '-p', str(self.port)], check=False).returncode == 0

    def psql(self, text):
        """The command that runs statements."""
        return [self.binaries / 'psql', '-h', '127.0.0.1', '-p', str(self.port), '-U', 'postgres', '-d', self.database,
                '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-c', text]

    def sql(self, text):
        """Runs statements; what they print, unaligned."""
        done = subprocess.run(self.psql(text), check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f'{text}\n{done.stderr}')
        return done.stdout.strip()

    def people(self, count):
        """Users, profiles and sessions from 0 up to `count`, and the communities."""
        self.sql(f'''
            INSERT INTO communities_community (id, slug, name, is_private)
            SELECT n, 'community-' || n, 'Community ' || n, false FROM generate_series(1, {COMMUNITIES}) AS n
            ON CONFLICT DO NOTHING;
            INSERT INTO auth_user (id, username, password, first_name, last_name, email, is_superuser, is_staff,
                is_active, date_joined)
            SELECT n + 1, 'person' || n, '!', '', '', '', false, false, true, now()
            FROM generate_series(0, {count} - 1) AS n ON CONFLICT DO NOTHING;
            INSERT INTO accounts_userprofile (id, user_id, username, profile_picture, last_active)
            SELECT n + 1, n + 1, 'person' || n, '', now() FROM generate_series(0, {count} - 1) AS n
            ON CONFLICT DO NOTHING;
            INSERT INTO accounts_usersession (id, user_id, session_id, ip_address, user_agent, device_info,
                location_data, device_fingerprint, fast_fingerprint, pages_visited, started_at, expires_at,
                is_active, is_ended, persistent, termination_reason)
            SELECT gen_random_uuid(), n + 1, 'bench-session-' || lpad(n::text, 8, '0'), '127.0.0.1', 'bench', '{{}}',
                '{{}}', '', '', 0, now(), now() + interval '1 day', true, false, false, ''
            FROM generate_series(0, {count} - 1) AS n ON CONFLICT DO NOTHING;
            ANALYZE;''')

    def stop(self):
        super().stop()
        shutil.rmtree(self.data, ignore_errors=True)
