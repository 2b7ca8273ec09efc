"""Who visits a community, from sessions and events alone."""
from datetime import timedelta

from django.db.models import Avg, Exists, F, OuterRef
from django.utils import timezone

from accounts.models import UserEvent, UserSession


def get_community_visitors(community_id, active_only=True, now=None):
    """Get visitors from existing UserSession + UserEvent data"""
    now = now or timezone.now()
    if active_only:
        # Correction: active means seen within five minutes. `started_at` says when the
        # session began, so a session opened an hour ago and used a second ago was left out.
        # Both conditions stand in one filter(), so that one event has to meet both.
        return UserSession.objects.filter(
            is_active=True,
            user__events__metadata__community_id=community_id,
            user__events__timestamp__gte=now - timedelta(minutes=5),
        ).select_related('user').distinct()
    else:
        # Historical visitors
        return UserEvent.objects.filter(
            metadata__community_id=community_id
        ).values('user').distinct()


def get_visits(community_id, days=30, now=None, event_types=('page_view',)):
    """What each past visitor did, from UserEvent alone: visit_count, first_visit, last_visit, pages_viewed"""
    now = now or timezone.now()
    events = UserEvent.objects.filter(
        event_type__in=event_types,
        metadata__community_id=community_id,
        timestamp__gte=now - timedelta(days=days),
        timestamp__lt=now,
    ).order_by('timestamp')
    found = {}
    for user_id, at, url in events.values_list('user', 'timestamp', 'metadata__url'):
        visits = found.setdefault(user_id, {
            'user_id': user_id, 'visit_count': 0, 'page_views': 0, 'first_visit': at, 'last_visit': None, 'pages': {},
        })
        # Correction: Count('id') counts views. A visit is a run of views; half an hour without one ends it.
        if visits['last_visit'] is None or at - visits['last_visit'] > timedelta(minutes=30):
            visits['visit_count'] += 1
        visits['page_views'] += 1
        visits['last_visit'] = at
        visits['pages'][url] = visits['pages'].get(url, 0) + 1
    return list(found.values())


def get_visitor_stats(community_id, days=30, now=None):
    """Get visitor analytics from existing data"""
    cutoff = (now or timezone.now()) - timedelta(days=days)

    return {
        'total_visitors': UserEvent.objects.filter(
            metadata__community_id=community_id,
            timestamp__gte=cutoff
        ).values('user').distinct().count(),

        'page_views': UserEvent.objects.filter(
            event_type='page_view',
            metadata__community_id=community_id,
            timestamp__gte=cutoff
        ).count(),

        # Correction: a join with the events has one row per event, so a session of a busy
        # user weighed as much as that user has events. EXISTS keeps one row per session.
        'avg_session_duration': UserSession.objects.filter(
            Exists(UserEvent.objects.filter(
                user=OuterRef('user'), metadata__community_id=community_id)),
            started_at__gte=cutoff,
            ended_at__isnull=False
        ).aggregate(
            avg_duration=Avg(F('ended_at') - F('started_at'))
        )['avg_duration']
    }
