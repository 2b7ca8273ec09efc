from rest_framework.authentication import BaseAuthentication


class UserSessionAuthentication(BaseAuthentication):
    """The browser session that the middleware found, for the JSON API."""

    def authenticate(self, request):
        user = request._request.user
        return (user, None) if user.is_authenticated else None

    def authenticate_header(self, request):
        # With a challenge, "not signed in" is a 401 and not a 403.
        return 'Session'
