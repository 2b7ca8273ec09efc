from django.db import models

from accounts.models import UserProfile
from community_site import variant


class Community(models.Model):
    id = variant.community_key()
    slug = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=200)
    is_private = models.BooleanField(default=False)
    members = models.ManyToManyField(UserProfile, related_name='communities', blank=True)

    if variant.COUNTERS:
        # What the sidecar keeps: read here, never written.
        current_visitors = models.PositiveIntegerField(default=0, db_default=0, editable=False)
        total_visitors = models.PositiveIntegerField(default=0, db_default=0, editable=False)
        page_views = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
        visitors_updated_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = variant.table('communities_community')

    def __str__(self):
        return self.name

    def visible_to(self, profile):
        if not self.is_private:
            return True
        return profile is not None and self.members.filter(pk=profile.pk).exists()
