from django.conf import settings

from accounts import client
from accounts.models import UserEvent
from analytics.tasks import track_page_view


class AnalyticsTrackingMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        self._track_page_view(request, response, request.profile)
        return response

    def _track_page_view(self, request, response, user_profile):
        """Track page view for authenticated users"""
        if user_profile and request.method == 'GET':
            if response.status_code == 200:
                track_page_view.delay(str(user_profile.id))
                if settings.TRACKS:
                    self._record(request, user_profile)

    def _record(self, request, user_profile):
        """The site's own tracking: no community, and in the request, as such sites do it."""
        url = request.path.replace('\0', '')
        UserEvent.objects.create(
            user=user_profile,
            event_type='page_view',
            description=f'Page view: {url}',
            metadata={'url': url, 'referrer': request.META.get('HTTP_REFERER')},
            ip_address=client.ip(request),
            user_agent=client.user_agent(request),
            device_info=client.device(request),
        )
        request.user_session.pages_visited += 1
        request.user_session.save(update_fields=['pages_visited'])
