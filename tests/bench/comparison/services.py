"""The processes that are measured, and those around them: started on free ports, stopped at the end."""

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
BACKEND = REPOSITORY / 'tests/backend'
START_LIMIT = 60

# Requests of the proxies' comparison: so many people, each in one of so many communities.
PEOPLE = 1_000
COMMUNITIES = 50
PAGE = '<!doctype html><title>A community</title>'.ljust(280, '.')


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def token(person):
    """The session cookie's value of a person."""
    return f'bench-session-{person:08d}'


def answers(url):
    """Whether the URL answers, with whatever status."""
    try:
        urllib.request.urlopen(url, timeout=2).read()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def wait_until(what, condition, limit=START_LIMIT):
    """Waits for a condition; an error that names it if it does not come."""
    until = time.monotonic() + limit
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f'waited {limit} s for {what}')
        time.sleep(0.02)


class Service:
    """A process with a folder of its own, stopped when the folder goes."""

    def __init__(self, name, command, environment=None, as_user=None, files=None):
        self.name = name
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f'headcount-bench-{name}-'))
        for path, text in (files or {}).items():
            target = self.directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        if as_user and os.getuid() == 0:
            shutil.chown(self.directory, as_user)
            command = ['setpriv', f'--reuid={as_user}', f'--regid={as_user}', '--init-groups', *command]
        self.log = open(self.directory / 'log', 'wb')
        self.process = subprocess.Popen(
            command, cwd=self.directory, env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)

    @property
    def pid(self):
        return self.process.pid

    def ready(self, what, condition):
        """Waits until it serves; shows its log if it does not."""
        def checked():
            if self.process.poll() is not None:
                raise RuntimeError(f'{self.name} has ended:\n{self.text()}')
            return condition()
        try:
            wait_until(what, checked)
        except TimeoutError as error:
            raise RuntimeError(f'{error}; {self.name} says:\n{self.text()}') from None
        return self

    def text(self):
        return (self.directory / 'log').read_text(errors='replace')[-3_000:]

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class Stack:
    """Everything that was started, stopped in the opposite order."""

    def __init__(self):
        self.services = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for service in reversed(self.services):
            service.stop()

    def add(self, service):
        self.services.append(service)
        return service

    def stop(self, service):
        self.services.remove(service)
        service.stop()

    # What stands around.

    def postgres(self):
        return self.add(Postgres())

    def redis(self):
        port = free_port()
        service = self.add(Service('redis', [
            'redis-server', '--port', str(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']))
        service.port = port
        return service.ready('Redis', lambda: redis_command(port, 'PING') == b'+PONG')

    def origin(self):
        """nginx that answers every path with one page: the app, where its own cost is not of interest."""
        port = free_port()
        config = nginx_config(f'''
            server {{
                listen 127.0.0.1:{port} backlog=1024 reuseport;
                default_type "text/html; charset=utf-8";
                location / {{ return 200 '{PAGE}'; }}
            }}''')
        return self._nginx('origin', port, config)

    def django(self, url, workers=1, **environment):
        port = free_port()
        service = self.add(Service('django', [
            venv('gunicorn'), '-c', str(BACKEND / 'gunicorn.conf.py'), '--chdir', str(BACKEND),
            'community_site.wsgi'], {
                'BACKEND_DB': url, 'BACKEND_BIND': f'127.0.0.1:{port}', 'BACKEND_WORKERS': str(workers),
                'PYTHONPATH': f'{BACKEND}:{REPOSITORY / "tests/bench"}', **environment}))
        service.port = port
        return service.ready('Django', lambda: answers(f'http://127.0.0.1:{port}/healthz'))

    # What is measured.

    def _nginx(self, name, port, config):
        service = self.add(Service(
            name, ['/usr/sbin/nginx', '-p', './', '-c', 'nginx.conf', '-e', 'stderr'], files={'nginx.conf': config}))
        service.port = port
        return service.ready(name, lambda: answers(f'http://127.0.0.1:{port}/'))

    def nginx(self, origin):
        port = free_port()
        return self._nginx('nginx', port, nginx_config(proxying(port, origin.port)))

    def nginx_lua(self, origin, redis):
        """nginx that looks the session up in Redis and updates presence there, for each request."""
        port = free_port()
        script = LUA.replace('REDIS_PORT', str(redis.port))
        config = nginx_config(
            proxying(port, origin.port, f'access_by_lua_block {{ {script} }}'),
            modules='load_module /usr/lib/nginx/modules/ndk_http_module.so;\n'
                    'load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;',
            http='lua_package_path "/usr/share/lua/5.1/?.lua;;";')
        return self._nginx('nginx-lua', port, config)

    def haproxy(self, origin):
        port = free_port()
        service = self.add(Service('haproxy', ['/usr/sbin/haproxy', '-db', '-f', 'haproxy.cfg'], files={
            'haproxy.cfg': f'''
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
    option forwardfor
frontend site
    bind 127.0.0.1:{port}
    default_backend app
backend app
    server app 127.0.0.1:{origin.port}
'''}))
        service.port = port
        return service.ready('HAProxy', lambda: answers(f'http://127.0.0.1:{port}/'))

    def bare_pingora(self, origin, threads=1):
        port = free_port()
        service = self.add(Service('bare-pingora', [
            os.environ['HEADCOUNT_BARE_PINGORA'], f'127.0.0.1:{port}', f'127.0.0.1:{origin.port}', str(threads)]))
        service.port = port
        return service.ready('bare Pingora', lambda: answers(f'http://127.0.0.1:{port}/'))

    def headcount(self, origin, postgres, redis, sections='', record='', first_answer=False):
        """A sidecar that is ready, or that has just given its first answer; `record` is the `[record]` section."""
        port, admin = free_port(), free_port()
        config = f'''
[listen]
http = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
[upstream]
servers = ["127.0.0.1:{origin.port}"]
idle_timeout = "60s"
[database]
url = "{postgres.url}"
[redis]
url = "redis://127.0.0.1:{redis.port}/0"
key_prefix = "bench{port}"
[log]
filter = "warn"
[api]
access = "session"
[record]
{record}
{sections}
'''
        service = self.add(Sidecar('headcount', [
            os.environ['HEADCOUNT_BINARY'], 'run', '--config', 'headcount.toml'], files={
                'headcount.toml': config,
                'routes.d/communities.toml': (REPOSITORY / 'config/routes.d/communities.toml').read_text()}))
        service.port, service.admin, service.prefix = port, admin, f'bench{port}'
        if first_answer:
            while not answers(f'http://127.0.0.1:{port}/communities/7/'):
                time.sleep(0.0005)
            return service
        return service.ready('Headcount', lambda: answers(f'http://127.0.0.1:{admin}/readyz'))


OFF = '''presence = false
events = false
pages_visited = false
last_active = false'''


class Sidecar(Service):
    """Headcount: `port` of the site, `admin` of the metrics."""

    def metric(self, name):
        """Sum of a metric over its labels."""
        text = urllib.request.urlopen(f'http://127.0.0.1:{self.admin}/metrics', timeout=10).read().decode()
        return sum(float(line.rsplit(' ', 1)[1]) for line in text.splitlines()
                   if line.startswith((f'{name} ', f'{name}{{')))

    def drained(self, limit=300):
        """Waits until nothing waits to be written, seen twice: a view may be between two places."""
        def nothing_waits():
            for _ in range(2):
                time.sleep(0.2)
                if self.metric('headcount_recorder_queue_views') or self.metric('headcount_spool_views'):
                    return False
            return True
        wait_until('all page views to be written', nothing_waits, limit)


class Postgres(Service):
    """A server with the app's tables, Headcount's own, and a session for each person."""

    def __init__(self):
        binaries = max(pathlib.Path('/usr/lib/postgresql').glob('*/bin'), key=lambda path: int(path.parent.name))
        self.binaries = binaries
        self.port = free_port()
        data = tempfile.mkdtemp(prefix='headcount-bench-data-')
        self.data = data
        as_postgres = []
        if os.getuid() == 0:
            shutil.chown(data, 'postgres')
            as_postgres = ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups']
        subprocess.run(
            [*as_postgres, binaries / 'initdb', '-A', 'trust', '-U', 'postgres', '-D', data],
            check=True, cwd=data, stdout=subprocess.DEVNULL)
        super().__init__('postgres', [
            str(binaries / 'postgres'), '-D', data, '-p', str(self.port), '-c', f'unix_socket_directories={data}',
            '-c', 'listen_addresses=127.0.0.1', '-c', 'max_connections=200', '-c', 'max_wal_size=4GB',
            '-c', 'autovacuum=off'], as_user='postgres')
        self.url = f'postgres://postgres@127.0.0.1:{self.port}/site'
        self.ready('Postgres', self._answers)
        self.sql('CREATE DATABASE site', database='postgres')
        subprocess.run(
            [venv('python'), 'manage.py', 'migrate', '--no-input', '--verbosity', '0'], cwd=BACKEND, check=True,
            env={**os.environ, 'BACKEND_DB': self.url})
        self.people(PEOPLE)
        config = pathlib.Path(self.directory) / 'headcount.toml'
        config.write_text(f'[database]\nurl = "{self.url}"\n[upstream]\nservers = ["127.0.0.1:1"]\n')
        subprocess.run(
            [os.environ['HEADCOUNT_BINARY'], 'migrate', '--config', str(config)], check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _answers(self):
        return subprocess.run(
            [self.binaries / 'pg_isready', '-q', '-h', '127.0.0.1', '-p', str(self.port)], check=False).returncode == 0

    def sql(self, text, database='site'):
        """Runs statements; what they print, unaligned."""
        done = subprocess.run(
            [self.binaries / 'psql', '-h', '127.0.0.1', '-p', str(self.port), '-U', 'postgres', '-d', database,
             '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-c', text],
            check=False, capture_output=True, text=True)
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

    def stop(self, how=signal.SIGINT):
        super().stop(how)
        shutil.rmtree(self.data, ignore_errors=True)


def venv(name):
    """A program of the Python environment that runs this."""
    return str(pathlib.Path(sys.executable).parent / name)


def redis_command(port, *words):
    """One command; the first line of its answer, or the whole of a text."""
    try:
        with socket.create_connection(('127.0.0.1', port), timeout=5) as connection:
            parts = [f'*{len(words)}\r\n']
            parts += [f'${len(word)}\r\n{word}\r\n' for word in map(str, words)]
            connection.sendall(''.join(parts).encode())
            file = connection.makefile('rb')
            line = file.readline().rstrip()
            return file.read(int(line[1:])) if line.startswith(b'$') else line
    except OSError:
        return None


def redis_info(port, section, key):
    """One number of INFO."""
    for line in redis_command(port, 'INFO', section).decode().splitlines():
        name, _, value = line.partition(':')
        if name == key:
            return int(value)
    raise KeyError(key)


def nginx_config(servers, modules='', http=''):
    return f'''
{modules}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {http}
    {servers}
}}
'''


def proxying(port, origin, location=''):
    return f'''
    upstream app {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            {location}
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}'''


LUA = '''
    local session = ngx.var.cookie_session_id
    local community = ngx.re.match(ngx.var.uri, "^/communities/([0-9]+)/", "jo")
    if session and community then
        local redis = require("nginx.redis"):new()
        redis:set_timeout(1000)
        if redis:connect("127.0.0.1", REDIS_PORT) then
            local user = redis:get("session:" .. session)
            if user and user ~= ngx.null then
                redis:zadd("presence:" .. community[1], ngx.now(), user)
            end
            redis:set_keepalive(60000, 256)
        end
    end
'''


def sessions_in_redis(redis):
    """What the Lua script looks up."""
    with socket.create_connection(('127.0.0.1', redis.port)) as connection:
        for person in range(PEOPLE):
            connection.sendall(
                f'SET session:{token(person)} {person + 1}\r\n'.encode())
            connection.recv(16)
