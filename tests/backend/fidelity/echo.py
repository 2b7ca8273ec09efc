from types import SimpleNamespace

from django.http import JsonResponse

from fidelity.body import digest

# Replaced by the server's configuration, which sees the headers before WSGI folds them.
current = SimpleNamespace(headers=[])


def echo(request):
    """The request, as it arrived."""
    length, sha256 = digest(request)
    meta = request.META
    return JsonResponse({
        'method': request.method,
        'raw_uri': meta.get('RAW_URI'),
        'path': request.path,
        'query': meta.get('QUERY_STRING', ''),
        'protocol': meta.get('SERVER_PROTOCOL'),
        'scheme': request.scheme,
        'remote_addr': meta.get('REMOTE_ADDR'),
        'headers': {
            k: v for k, v in meta.items()
            if k.startswith('HTTP_') or k in ('CONTENT_TYPE', 'CONTENT_LENGTH')},
        'header_list': getattr(current, 'headers', []),
        'body_length': length,
        'body_sha256': sha256,
    })
