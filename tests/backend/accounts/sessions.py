"""Sign-in and sign-out of browser sessions."""
import secrets
from datetime import timedelta

from django.utils import timezone

from accounts.models import UserSession

LIFETIME = timedelta(days=14)
LIFETIME_REMEMBERED = timedelta(days=30)


def start(profile, *, ip_address='127.0.0.1', user_agent='', device_info=None, remember=False):
    return UserSession.objects.create(
        user=profile,
        session_id=secrets.token_urlsafe(32),
        ip_address=ip_address,
        user_agent=user_agent,
        device_info=device_info or {},
        persistent=remember,
        expires_at=timezone.now() + (LIFETIME_REMEMBERED if remember else LIFETIME),
    )


def end(session, reason):
    session.is_active = False
    session.is_ended = True
    session.ended_at = timezone.now()
    session.termination_reason = reason
    session.save(update_fields=['is_active', 'is_ended', 'ended_at', 'termination_reason'])


def find(token):
    """The live session of a token, or None."""
    return UserSession.objects.select_related('user__user').filter(
        session_id=token, is_active=True, is_ended=False, expires_at__gt=timezone.now()).first()
