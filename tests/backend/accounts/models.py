from django.conf import settings
from django.db import models
from django.utils import timezone

from accounts.event_types import EVENT_TYPES
from community_site import variant


class UserProfile(models.Model):
    id = variant.primary_key()
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name='profile')
    username = models.CharField(max_length=150, unique=True)
    profile_picture = models.FileField(upload_to='avatars/', null=True, blank=True)
    last_active = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = variant.table('accounts_userprofile')

    def __str__(self):
        return self.username


class UserSession(models.Model):
    # Session identification
    id = variant.big_key() if variant.UUID else variant.uuid_key()
    user = models.ForeignKey(UserProfile, on_delete=models.CASCADE, related_name='sessions')
    session_id = models.CharField(
        max_length=64, unique=True, db_column=variant.column('session_id'))

    # Device & location
    ip_address = models.GenericIPAddressField()
    user_agent = models.TextField()
    device_info = models.JSONField(default=dict)
    location_data = models.JSONField(default=dict)
    device_fingerprint = models.CharField(max_length=64, blank=True, default='')
    fast_fingerprint = models.CharField(max_length=64, blank=True, default='')

    # Session metrics
    pages_visited = models.PositiveIntegerField(default=0)

    # Lifecycle
    started_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField()
    is_active = models.BooleanField(default=True)
    is_ended = models.BooleanField(default=False)

    # Persistence
    persistent = models.BooleanField(default=False)  # "Remember me"
    termination_reason = models.CharField(max_length=50, blank=True, default='')

    class Meta:
        db_table = variant.table('accounts_usersession')


class UserEvent(models.Model):
    EVENT_TYPES = EVENT_TYPES

    id = variant.primary_key()
    user = models.ForeignKey(UserProfile, on_delete=models.CASCADE, related_name='events')
    event_type = models.CharField(max_length=50, choices=EVENT_TYPES)
    description = models.TextField()
    metadata = models.JSONField(default=dict)
    # Nullable in one variant only: both are found in the field.
    ip_address = models.GenericIPAddressField(null=variant.UUID, blank=variant.UUID)
    user_agent = models.TextField()
    device_info = models.JSONField(default=dict)
    location_data = models.JSONField(default=dict)
    timestamp = models.DateTimeField(auto_now_add=True, db_column=variant.column('timestamp'))
    if variant.UUID:
        # NOT NULL, and filled by Django alone: the database has no default for it.
        tenant = models.CharField(max_length=32, default='main')

    # No default ordering: it would become part of every DISTINCT.
    class Meta:
        db_table = variant.table('accounts_userevent')
