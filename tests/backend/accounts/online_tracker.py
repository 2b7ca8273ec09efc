"""Who is on the site now, from the events alone.

The pattern is the analysis' `online_tracker`: a set of users that expires. Correction: one expiry for the whole set is
renewed by whoever comes, so that nobody ever leaves; here each user has a time of their own, that of the last page view.
"""
from datetime import timedelta

from django.db.models import Max
from django.utils import timezone

from accounts.models import UserEvent


class OnlineTracker:
    def __init__(self, seconds=300, now=None):
        self.since = (now or timezone.now()) - timedelta(seconds=seconds)

    def last_seen(self):
        """Users who are online, each with the last page view anywhere."""
        views = UserEvent.objects.filter(event_type='page_view', timestamp__gt=self.since)
        return dict(views.values_list('user').annotate(last=Max('timestamp')))

    def count(self):
        return len(self.last_seen())

    def which(self, ids):
        """Those of some users who are online, in the order asked."""
        online = {str(user): user for user in self.last_seen()}
        return [online[str(user)] for user in ids if str(user) in online]

    def at(self, **metadata):
        """Users with a page view whose metadata or URL says so, such as a post's."""
        views = UserEvent.objects.filter(event_type='page_view', timestamp__gt=self.since, **metadata)
        return set(views.values_list('user', flat=True))
