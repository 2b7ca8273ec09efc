import hashlib
import re
from functools import lru_cache

from django.http import HttpResponse, JsonResponse, StreamingHttpResponse

# A prime length, so that the pattern never lines up with anybody's buffers.
PERIOD = 65521
PATTERN = hashlib.shake_256(b'download').digest(PERIOD)
CHUNK = 65536


def content(start, end):
    """The bytes [start, end) of an endless file."""
    while start < end:
        offset = start % PERIOD
        data = PATTERN[offset:offset + min(CHUNK, end - start)]
        yield data
        start += len(data)


@lru_cache(maxsize=64)
def sha256_of(size):
    sha256 = hashlib.sha256()
    for data in content(0, size):
        sha256.update(data)
    return sha256.hexdigest()


def size_of(request):
    return int(request.GET.get('size', '65536'))


def sha256(request):
    size = size_of(request)
    return JsonResponse({'size': size, 'sha256': sha256_of(size)})


def download(request):
    size = size_of(request)
    start, end, status = 0, size, 200
    if wanted := byte_range(request.headers.get('Range', ''), size):
        start, end = wanted
        if start >= end:
            return HttpResponse(status=416, headers={'Content-Range': f'bytes */{size}'})
        status = 206
    body = [] if request.method == 'HEAD' else content(start, end)
    response = StreamingHttpResponse(
        body, status=status, content_type='application/octet-stream')
    response['Content-Length'] = str(end - start)
    response['Accept-Ranges'] = 'bytes'
    response['X-Content-SHA256'] = sha256_of(size)
    if status == 206:
        response['Content-Range'] = f'bytes {start}-{end - 1}/{size}'
    return response


def byte_range(header, size):
    """One range as (start, end); None for none, several, or nonsense: then all is sent."""
    match = re.fullmatch(r'bytes=(\d*)-(\d*)', header)
    if not match or match.groups() == ('', ''):
        return None
    first, last = match.groups()
    if first == '':
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
