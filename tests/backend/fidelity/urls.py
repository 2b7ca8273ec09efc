from django.urls import path, re_path

from fidelity import download, echo, gates, views

urlpatterns = [
    re_path(r'^echo(?:/(?s:.*))?\Z', echo.echo),
    path('healthz', views.healthz),
    path('static/<path:path>', views.static),
    path('redirect', views.redirect),
    path('cookies', views.cookies),
    path('status/<int:code>', views.status),
    path('stream', views.stream),
    path('sse', views.sse),
    path('upload', views.upload),
    path('download', download.download),
    path('download/sha256', download.sha256),
    path('slow', views.slow),
    path('longpoll', views.longpoll),
    path('etag', views.etag),
    path('picture', views.picture),
    path('attachment', views.attachment),
    path('json-page', views.json_page),
    path('headers/large', views.large_headers),
    path('gates/<name>/open', gates.open_gate),
    path('gates/<name>/wait', gates.wait_at_gate),
    path('tally/<name>', gates.tally),
    path('die', views.die),
]
