"""What a test needs to arrange and to ask, without SQL of its own. Never part of a real site.

POST bodies are JSON objects; `session_id` is a cookie's value, `username` a profile's name."""
import json
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.http import HttpResponse
from django.utils import timezone

from accounts import sessions as browser_sessions
from accounts.models import UserEvent, UserProfile, UserSession
from communities import oracle, seeding
from communities.management.output import dumps


def answer(value):
    return HttpResponse(dumps(value), content_type='application/json')


def moment(text):
    return datetime.fromisoformat(text) if text else None


def stats(request, community_id):
    days = int(request.GET.get('days', '30'))
    return answer(oracle.stats(community_id, days, moment(request.GET.get('now'))))


def visits(request, community_id):
    days = int(request.GET.get('days', '30'))
    return answer(oracle.visits(community_id, days, request.GET['types'].split(',')))


def visitors(request, community_id):
    active_only = request.GET.get('all') != '1'
    return answer(oracle.visitors(community_id, active_only, moment(request.GET.get('now'))))


def online(request):
    ids = [id for id in request.GET.get('ids', '').split(',') if id]
    seconds = float(request.GET.get('seconds', '300'))
    return answer(oracle.online(seconds, ids, request.GET.get('url')))


def events(request):
    return answer(oracle.events(request.GET.get('community')))


def sessions(request):
    return answer(oracle.sessions())


def profiles(request):
    return answer(oracle.profiles())


def communities(request):
    return answer(oracle.communities())


def seed(request):
    """{members, outsiders, communities, avatars, sign_in}, as the command's options"""
    return answer(seeding.seed(**json.loads(request.body)))


def reset(request):
    """Deletes all events and sessions."""
    return answer({
        'events': UserEvent.objects.all().delete()[0],
        'sessions': UserSession.objects.all().delete()[0],
    })


def chosen(body):
    """The sessions that a body means: one by its token, or all of a user."""
    if 'session_id' in body:
        return UserSession.objects.filter(session_id=body['session_id'])
    return UserSession.objects.filter(user__username=body['username'])


def add_session(request):
    """{username, started_at?, ended_at?, expires_at?, pages_visited?, …}: any field by name"""
    body = json.loads(request.body)
    session = browser_sessions.start(UserProfile.objects.get(username=body.pop('username')))
    # By update(), because `started_at` is set to now on creation whatever one passes.
    if body:
        UserSession.objects.filter(pk=session.pk).update(**body)
        session.refresh_from_db()
    return answer(oracle.fields(session))


def expire_session(request):
    """{session_id} or {username}"""
    past = timezone.now() - timedelta(seconds=1)
    return answer({'changed': chosen(json.loads(request.body)).update(expires_at=past)})


def end_session(request):
    """{session_id} or {username}, reason?"""
    body = json.loads(request.body)
    found = list(chosen(body))
    for session in found:
        browser_sessions.end(session, body.get('reason', 'logout'))
    return answer({'changed': len(found)})


def delete_user(request):
    """{username}: the user, the profile, and all that belongs to it"""
    body = json.loads(request.body)
    return answer({'deleted': User.objects.filter(username=body['username']).delete()[0]})


def add_event(request):
    """{username, timestamp?, count?, event_type?, metadata?, …}: any field by name"""
    body = json.loads(request.body)
    profile = UserProfile.objects.get(username=body.pop('username'))
    timestamp, count = body.pop('timestamp', None), body.pop('count', 1)
    values = {
        'event_type': 'page_view', 'description': 'Page view', 'ip_address': '127.0.0.1', **body}
    rows = UserEvent.objects.bulk_create(
        UserEvent(user=profile, **values) for _ in range(count))
    if timestamp:
        UserEvent.objects.filter(pk__in=[e.pk for e in rows]).update(timestamp=timestamp)
    return answer({'ids': [e.pk for e in rows]})


def write_in_descending_order(request):
    """{session_ids}: what an app's own code may do in passing, in one transaction: raises the users'
    `last_active`, then adds a page to each session, both from the highest key down."""
    tokens = json.loads(request.body)['session_ids']
    keys = UserSession.objects.filter(session_id__in=tokens).values_list('pk', 'user_id')
    with transaction.atomic():
        for user in sorted({user for _, user in keys}, reverse=True):
            UserProfile.objects.filter(pk=user).update(last_active=timezone.now())
        for session in sorted((session for session, _ in keys), reverse=True):
            UserSession.objects.filter(pk=session).update(pages_visited=F('pages_visited') + 1)
    return answer({'changed': len(keys)})
