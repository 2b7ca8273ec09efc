"""What is measured, and the app behind it."""

import tempfile
import time
import urllib.request

from .services import BACKEND, BENCH, Service, answers, free_port, venv, wait_until

PAGE = '<!doctype html><title>A community</title>'.ljust(280, '.')

# Headcount's `[record]`: nothing is recorded.
OFF = '''presence = false
events = false
pages_visited = false
last_active = false'''


class World:
    """Starts the servers: Postgres, Redis and the app once, with what one part left behind removed for the next; the
    others for a part. `binary` and `bare` are those of Headcount and, where that is measured, of bare Pingora; `pgo` is
    Headcount's profile-guided one, where there is one."""

    def __init__(self, postgres, redis, binary, bare, pgo=None):
        self.postgres, self.redis, self.binary, self.bare, self.pgo = postgres, redis, binary, bare, pgo
        self.app = None

    def part(self, stack):
        """For one part, whose servers the stack stops."""
        self.stack = stack
        self.postgres.fresh()
        self.redis.fresh()
        return self

    def origin(self, stack):
        """nginx that answers every path with one page: the app, where its own cost is not of interest."""
        port = free_port()
        self.stack = stack
        self.socket = f'{tempfile.mkdtemp(prefix="app-")}/app.sock'
        self.app = self._nginx('origin', port, nginx_config(f'''
            server {{
                listen 127.0.0.1:{port} backlog=1024;
                listen unix:{self.socket} backlog=1024;
                default_type "text/html; charset=utf-8";
                location / {{ return 200 '{PAGE}'; }}
            }}'''))
        return self.app

    def django(self, **environment):
        """The tests' site under gunicorn, with one worker."""
        port = free_port()
        service = self.stack.add(Service('django', [
            venv('gunicorn'), '-c', BACKEND / 'gunicorn.conf.py', '--chdir', BACKEND, 'community_site.wsgi'], {
                'BACKEND_DB': self.postgres.url, 'BACKEND_BIND': f'127.0.0.1:{port}', 'BACKEND_WORKERS': '1',
                'PYTHONPATH': f'{BACKEND}:{BENCH}', **environment}))
        service.port = port
        return service.ready('Django', lambda: answers(f'http://127.0.0.1:{port}/healthz'))

    def _nginx(self, name, port, config):
        service = self.stack.add(Service(
            name, ['/usr/sbin/nginx', '-p', './', '-c', 'nginx.conf', '-e', 'stderr'], files={'nginx.conf': config}))
        service.port = port
        return service.ready(name, lambda: answers(f'http://127.0.0.1:{port}/'))

    def nginx(self):
        port = free_port()
        return self._nginx('nginx', port, nginx_config(proxying(port, self.app.port)))

    def nginx_lua(self):
        """nginx that looks the session up in Redis and updates presence there, for each request."""
        port = free_port()
        script = LUA.replace('REDIS_PORT', str(self.redis.port))
        config = nginx_config(
            proxying(port, self.app.port, f'access_by_lua_block {{ {script} }}'),
            modules='load_module /usr/lib/nginx/modules/ndk_http_module.so;\n'
                    'load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;',
            http='lua_package_path "/usr/share/lua/5.1/?.lua;;";')
        return self._nginx('nginx-lua', port, config)

    def haproxy(self):
        port = free_port()
        service = self.stack.add(Service('haproxy', ['/usr/sbin/haproxy', '-db', '-f', 'haproxy.cfg'], files={
            'haproxy.cfg': HAPROXY.format(port=port, app=self.app.port)}))
        service.port = port
        return service.ready('HAProxy', lambda: answers(f'http://127.0.0.1:{port}/'))

    def bare_pingora(self):
        port = free_port()
        service = self.stack.add(Service('bare-pingora', [
            self.bare, f'127.0.0.1:{port}', f'127.0.0.1:{self.app.port}', '1']))
        service.port = port
        return service.ready('bare Pingora', lambda: answers(f'http://127.0.0.1:{port}/'))

    def headcount(self, sections='', record='', threads=1, socket=False, binary=None, first_answer=None, prefix=None):
        """A sidecar that is ready, or that has just given what `first_answer` asks for; `record` is the `[record]`
        section, `socket` reaches the app over its Unix socket. Those of one `prefix` share their presence."""
        port, admin = free_port(), free_port()
        app = f'unix:{self.socket}' if socket else f'127.0.0.1:{self.app.port}'
        service = self.stack.add(Sidecar('headcount', [binary or self.binary, 'run', '--config', 'headcount.toml'], files={
            'headcount.toml': SIDECAR.format(
                port=port, admin=admin, app=app, threads=threads, database=self.postgres.url, redis=self.redis.port,
                prefix=prefix or f'bench{port}', record=record, sections=sections),
            'routes.d/communities.toml': (BENCH / 'routes.d/communities.toml').read_text()}))
        service.port, service.admin = port, admin
        if first_answer:
            return service.ready('its first answer', lambda: first_answer(port), every=0.0005)
        return service.ready('Headcount', lambda: answers(f'http://127.0.0.1:{admin}/readyz'))


class Sidecar(Service):
    """Headcount: `port` of the site, `admin` of the metrics."""

    def metric(self, name):
        """Sum of a metric over its labels."""
        text = urllib.request.urlopen(f'http://127.0.0.1:{self.admin}/metrics', timeout=10).read().decode()
        return sum(float(line.rsplit(' ', 1)[1]) for line in text.splitlines()
                   if line.startswith((f'{name} ', f'{name}{{')))

    def drained(self, limit=60):
        """Waits until nothing waits to be written, seen twice: a view may be between two places."""
        def nothing_waits():
            for _ in range(2):
                time.sleep(0.2)
                if self.metric('headcount_recorder_queue_views') or self.metric('headcount_spool_views'):
                    return False
            return True
        wait_until('all page views to be written', nothing_waits, limit)


SIDECAR = '''
[listen]
http = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
threads = {threads}
[upstream]
servers = ["{app}"]
idle_timeout = "60s"
[database]
url = "{database}"
[redis]
url = "redis://127.0.0.1:{redis}/0"
key_prefix = "{prefix}"
[log]
filter = "warn"
[api]
access = "session"
[record]
{record}
{sections}
'''


HAPROXY = '''
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
    server app 127.0.0.1:{app}
'''


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
