"""What the site's own code says about its rows, as plain JSON values. Read through the ORM."""
from accounts.models import UserEvent, UserProfile, UserSession
from accounts.online_tracker import OnlineTracker
from communities.models import Community
from communities.utils.visitor_utils import get_community_visitors, get_visitor_stats, get_visits


def stats(community_id, days=30, now=None):
    result = get_visitor_stats(community_id, days, now)
    average = result['avg_session_duration']
    result['avg_session_duration'] = None if average is None else average.total_seconds()
    return {'community_id': community_id, 'days': days, **result}


def visitors(community_id, active_only=True, now=None):
    found = get_community_visitors(community_id, active_only, now)
    if active_only:
        found = list(found.order_by('started_at', 'pk'))
        rows = [visitor(s) for s in found]
        users = {s.user_id for s in found}
    else:
        rows = []
        users = {row['user'] for row in found}
    return {
        'community_id': community_id,
        'active_only': active_only,
        'user_ids': sorted(users, key=str),
        'visitors': rows,
    }


def visits(community_id, days, event_types):
    return sorted(get_visits(community_id, days, event_types=event_types), key=lambda row: str(row['user_id']))


def online(seconds=300, ids=(), url=None):
    tracker = OnlineTracker(seconds)
    users = sorted(tracker.last_seen(), key=str)
    at = {} if url is None else {'at': sorted(tracker.at(metadata__url=url), key=str)}
    return {'count': tracker.count(), 'user_ids': users, 'which': tracker.which(ids), **at}


def visitor(s):
    return {
        'user_id': s.user.id,
        'username': s.user.username,
        'avatar': s.user.profile_picture.url if s.user.profile_picture else None,
        'started_at': s.started_at,
        'pages_visited': s.pages_visited,
    }


def events(community_id=None):
    rows = UserEvent.objects.select_related('user').order_by('timestamp', 'pk')
    if community_id is not None:
        rows = rows.filter(metadata__community_id=community_id)
    return [{**fields(e), 'username': e.user.username} for e in rows]


def sessions():
    rows = UserSession.objects.select_related('user').order_by('started_at', 'pk')
    return [{**fields(s), 'username': s.user.username} for s in rows]


def profiles():
    return [
        {**fields(p), 'avatar': p.profile_picture.url if p.profile_picture else None}
        for p in UserProfile.objects.order_by('username')]


def communities():
    return [
        {**fields(c), 'members': sorted(c.members.values_list('username', flat=True))}
        for c in Community.objects.order_by('slug')]


def fields(row):
    """Every column by the model's own name (`user_id` for a foreign key)."""
    result = {f.attname: getattr(row, f.attname) for f in row._meta.concrete_fields}
    if 'profile_picture' in result:
        result['profile_picture'] = result['profile_picture'].name or None
    return result
