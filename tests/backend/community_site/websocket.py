import json

from simple_websocket import ConnectionClosed, Server

BAD_REQUEST = b'a WebSocket handshake was expected\n'


def echo(environ, start_response):
    """Send every message back. `headers` answers the handshake's headers as JSON; `close <code>`
    closes with that code; `burst <n>` answers n numbered messages."""
    if environ.get('HTTP_UPGRADE', '').lower() != 'websocket':
        start_response('426 Upgrade Required', [
            ('Content-Type', 'text/plain'), ('Content-Length', str(len(BAD_REQUEST)))])
        return [BAD_REQUEST]
    ws = Server(environ, ping_interval=None, max_message_size=16 * 1024 * 1024)
    try:
        while True:
            answer(ws, environ, ws.receive())
    except ConnectionClosed:
        # Told so before the answer to the client's close frame is sent, from another thread.
        ws.thread.join(timeout=1)
    # The socket is no longer HTTP: this tells gunicorn to close it and write no response.
    raise StopIteration


def answer(ws, environ, message):
    if message == 'headers':
        ws.send(json.dumps({k: v for k, v in environ.items() if k.startswith('HTTP_')}))
    elif isinstance(message, str) and message.startswith('close '):
        ws.close(int(message.split()[1]), 'as asked')
    elif isinstance(message, str) and message.startswith('burst '):
        for i in range(int(message.split()[1])):
            ws.send(str(i))
    else:
        ws.send(message)
