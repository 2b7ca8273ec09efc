"""The tests' site with django-tracking2, whose visitors are Django's sessions."""

from community_site.settings import *  # noqa: F403

INSTALLED_APPS += ['django.contrib.sessions', 'tracking']  # noqa: F405
MIDDLEWARE[:0] = [  # noqa: F405
    'django.contrib.sessions.middleware.SessionMiddleware',
    'django.contrib.auth.middleware.AuthenticationMiddleware',
    'tracking.middleware.VisitorTrackingMiddleware',
]
# The load has one cookie, which is read by both.
SESSION_COOKIE_NAME = 'session_id'
TRACK_PAGEVIEWS = True
