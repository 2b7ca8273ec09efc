"""What recording one page view costs, application and database together: Headcount, the app's own middleware, and
django-tracking2."""

import os
import subprocess

from .. import load, services
from ..measure import Used
from ..proxies import OFF

TITLE = 'Recording one page view: CPU of what records, and of the database'
LIMIT = 110
# Django answers so many requests a second at the most that its runs are counted in requests.
SECONDS = 3


def run(world, report, options):
    make_tracking_tables(world.postgres)
    off, on = world.headcount(record=OFF), world.headcount()
    plain = world.django()
    own = world.django(BACKEND_TRACKS='1')
    tracking2 = world.django(DJANGO_SETTINGS_MODULE='tracked.settings')
    for each in (off, on):
        load.saturate(each.port, 1)
    for each in (plain, own, tracking2):
        load.saturate(each.port, 1, connections=4, people=100)

    found = {name: [] for name in ('off', 'on', 'plain', 'own', 'tracking2')}
    for _ in range(min(3, options.rounds)):
        for name, proxy in (('off', off), ('on', on)):
            with Used(proxy, world.postgres, world.redis) as used:
                requests = load.saturate(proxy.port, options.seconds)
                proxy.drained()
            found[name].append(used.seconds / requests * 1e6)
        for name, django in (('plain', plain), ('own', own), ('tracking2', tracking2)):
            with Used(django, world.postgres) as used:
                requests = load.saturate(django.port, SECONDS, connections=4, people=100)
            found[name].append(used.seconds / requests * 1e6)

    ours = [on - off for on, off in zip(found['on'], found['off'])]
    report.extend('Headcount: sidecar, Redis and Postgres, recording on less off', 'µs', ours)
    report.extend('Django, a page without tracking', 'µs', found['plain'])
    for name, label in (('own', "the app's own middleware"), ('tracking2', 'django-tracking2')):
        added = [with_it - without for with_it, without in zip(found[name], found['plain'])]
        report.extend(f'Django with {label}: what tracking adds', 'µs', added)
        report.ratio(f'one recorded view, CPU of app and database: Headcount / {label}', ours, added, '≤ 0.05', digits=3)


def make_tracking_tables(postgres):
    """The tables of django-tracking2 and of Django's own sessions, and a signed-in session for each person."""
    for arguments in (['migrate', '--no-input', '--verbosity', '0'], ['shell', '-c', SESSIONS]):
        subprocess.run(
            [services.venv('python'), 'manage.py', *arguments], cwd=services.BACKEND, check=True,
            stdout=subprocess.DEVNULL, env={
                **os.environ, 'BACKEND_DB': postgres.url, 'DJANGO_SETTINGS_MODULE': 'tracked.settings',
                'PYTHONPATH': str(services.BENCH)})


# The cookie of the load is one for both: the site's session token serves as key of Django's session, too.
SESSIONS = f'''
from django.contrib.sessions.models import Session
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.auth import get_user_model
from django.utils import timezone
until = timezone.now() + timezone.timedelta(days=1)
store = SessionStore()
users = get_user_model().objects.order_by("id")[:100]
Session.objects.bulk_create([
    Session(session_key=f"bench-session-{{user.id - 1:08d}}", expire_date=until, session_data=store.encode({{
        "_auth_user_id": str(user.id), "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
        "_auth_user_hash": user.get_session_auth_hash()}}))
    for user in users])
'''
