import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'community_site.settings')

from community_site import websocket  # noqa: E402

django_application = get_wsgi_application()


def application(environ, start_response):
    # A WebSocket takes over the connection, which a Django view cannot.
    if environ['PATH_INFO'] == '/ws/echo':
        return websocket.echo(environ, start_response)
    return django_application(environ, start_response)
