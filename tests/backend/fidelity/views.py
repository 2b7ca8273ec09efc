"""Answers of every kind that a reverse proxy has to pass on unchanged."""
import os
import time
from http.cookies import Morsel

from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.utils.http import quote_etag
from django.views.decorators.http import condition
from django.views.static import serve

from community_site.html import page
from fidelity import gates
from fidelity.body import digest


def number(request, name, default):
    return int(request.GET.get(name, default))


def text(body, **kwargs):
    return HttpResponse(body, content_type='text/plain; charset=utf-8', **kwargs)


def healthz(request):
    return text('ok\n')


def static(request, path):
    return serve(request, path, document_root=settings.STATIC_DIR)


def redirect(request):
    return HttpResponseRedirect(request.GET.get('to', '/about/?from=redirect#top'))


def cookies(request):
    response = HttpResponse(page('Cookies', ''))
    response.set_cookie('plain', 'value', max_age=3600, samesite='Lax')
    response.set_cookie('scoped', 'x', path='/communities/', secure=True, httponly=True)
    response.delete_cookie('gone')
    # Values as other software writes them, past the quoting that Django would do.
    for key, name, raw in [
        ('equals', 'equals', 'a=b==&c=d'),
        ('quoted', 'quoted', '"with spaces, and commas"'),
        ('json', 'json', '{"a":1,"b":[2,3]}'),
        ('empty', 'empty', ''),
        ('percent', 'percent', '%7B%22%C3%A9%22%7D'),
        ('same-1', 'same', 'first'),
        ('same-2', 'same', 'second; Path=/c/'),
    ]:
        morsel = Morsel()
        morsel.set(name, raw, raw)
        dict.__setitem__(response.cookies, key, morsel)
    return response


def status(request, code):
    if not 200 <= code <= 599:
        return text('200 to 599\n', status=400)
    body = '' if code in (204, 205, 304) else page(f'Status {code}', '')
    return HttpResponse(body, status=code)


def stream(request):
    n, delay = number(request, 'n', 10), number(request, 'delay_ms', 0) / 1000

    def lines():
        for i in range(n):
            time.sleep(delay)
            if i:
                gates.wait(request)
            yield f'chunk {i}\n'

    return StreamingHttpResponse(lines(), content_type='text/plain; charset=utf-8')


def sse(request):
    n, delay = number(request, 'n', 3), number(request, 'delay_ms', 0) / 1000

    def events():
        for i in range(n):
            time.sleep(delay)
            if i:
                gates.wait(request)
            yield f'id: {i}\nevent: tick\ndata: {{"n": {i}}}\n\n'

    return StreamingHttpResponse(
        events(), content_type='text/event-stream', headers={'Cache-Control': 'no-cache'})


def upload(request):
    length, sha256 = digest(request)
    return JsonResponse({'size': length, 'sha256': sha256})


def slow(request):
    gates.opens(request)
    gates.wait(request)
    time.sleep(number(request, 'ms', 0 if 'gate' in request.GET else 1000) / 1000)
    return HttpResponse(page('Slow', ''))


def longpoll(request):
    gates.wait(request)
    time.sleep(number(request, 'ms', 0 if 'gate' in request.GET else 1000) / 1000)
    return JsonResponse({'event': None})


@condition(etag_func=lambda request: quote_etag('version-1'))
def etag(request):
    return HttpResponse(page('With an ETag', ''))


@condition(etag_func=lambda request: quote_etag('picture-1'))
def picture(request):
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
    return HttpResponse(svg, content_type='image/svg+xml')


def attachment(request):
    return HttpResponse(
        page('Report', ''), headers={'Content-Disposition': 'attachment; filename="report.html"'})


def json_page(request):
    return JsonResponse({'page': 'json'})


def large_headers(request):
    response = text('ok\n')
    for i in range(number(request, 'n', 16)):
        response[f'X-Large-{i}'] = 'x' * number(request, 'size', 1024)
    return response


def die(request):
    # At once and without a word, as a killed worker does.
    os._exit(1)
