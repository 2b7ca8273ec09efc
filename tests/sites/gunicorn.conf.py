import os

# One configuration for every site; the tests choose where it listens.
bind = os.environ.get('SITE_BIND', '127.0.0.1:0')
workers = 1
threads = 8
worker_class = 'gthread'
keepalive = 75
# Tests stop the server often; nothing here is worth waiting for.
graceful_timeout = 2
accesslog = None
# Several servers run side by side, and they must not share one socket file in $HOME.
control_socket_disable = True
