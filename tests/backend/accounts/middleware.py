from django.contrib.auth.models import AnonymousUser

from accounts import sessions
from community_site import variant


class UserSessionMiddleware:
    """Resolves the cookie to `request.user_session`, `request.profile` and `request.user`."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        token = request.COOKIES.get(variant.SESSION_COOKIE, '')
        # A token that could not be stored could not be found either.
        session = sessions.find(token) if 0 < len(token) <= 64 and '\0' not in token else None
        request.user_session = session
        request.profile = session.user if session else None
        request.user = session.user.user if session else AnonymousUser()
        return self.get_response(request)


class ProfileMiddleware:
    """The profile of whoever Django's own session has signed in."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        request.user_session = None
        request.profile = request.user.profile if request.user.is_authenticated else None
        return self.get_response(request)
