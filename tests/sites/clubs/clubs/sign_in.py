import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from clubs.models import SignIn


def hashed(token):
    return hashlib.sha256(token.encode()).hexdigest()


def begin(member):
    """A new sign-in; returns the cookie's value, which is kept nowhere."""
    token = secrets.token_urlsafe(32)
    SignIn.objects.create(
        member=member, token_hash=hashed(token), expires_at=timezone.now() + timedelta(days=14))
    return token


class SignInMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        token = request.COOKIES.get(settings.CLUBS_SESSION_COOKIE, '')
        request.sign_in = SignIn.objects.select_related('member').filter(
            token_hash=hashed(token), revoked_at=None, expires_at__gt=timezone.now()).first() if token else None
        request.member = request.sign_in.member if request.sign_in else None
        return self.get_response(request)
