import os
import threading

bind = os.environ.get('BACKEND_BIND', '127.0.0.1:0').split(',')
workers = int(os.environ.get('BACKEND_WORKERS', '2'))
threads = int(os.environ.get('BACKEND_THREADS', '8'))
worker_class = 'gthread'
keepalive = 75
timeout = 120
# Tests stop the server often; nothing here is worth waiting for.
graceful_timeout = 2
accesslog = None
loglevel = os.environ.get('BACKEND_LOG_LEVEL', 'info')
# Several servers run side by side, and they must not share one socket file in $HOME.
control_socket_disable = True
# One import for all workers: a quicker start.
preload_app = True
# The limits of the site must not be what a test of long headers runs into.
limit_request_line = 8190
limit_request_field_size = 65536
limit_request_fields = 200

# WSGI folds repeated headers into one; `/echo` also shows them as they came.
current = threading.local()


def pre_request(worker, req):
    current.headers = list(req.headers)


def post_fork(server, worker):
    from fidelity import echo

    echo.current = current
