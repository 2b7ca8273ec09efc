"""An ASGI app that shows the request as its server passed it on."""
import json


async def application(scope, receive, send):
    if scope['type'] != 'http':
        return
    length = 0
    more = True
    while more:
        message = await receive()
        length += len(message.get('body', b''))
        more = message.get('more_body', False)
    body = json.dumps({
        'method': scope['method'],
        'version': scope['http_version'],
        'scheme': scope['scheme'],
        'path': scope['path'],
        'raw_path': scope['raw_path'].decode('latin-1'),
        'query': scope['query_string'].decode('latin-1'),
        'headers': [[name.decode('latin-1'), value.decode('latin-1')] for name, value in scope['headers']],
        'body_length': length,
    }).encode()
    await send({'type': 'http.response.start', 'status': 200, 'headers': [
        (b'content-type', b'application/json'), (b'content-length', str(len(body)).encode())]})
    await send({'type': 'http.response.body', 'body': body})
