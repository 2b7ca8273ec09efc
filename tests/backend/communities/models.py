from django.db import models

from accounts.models import UserProfile
from community_site import variant


class Community(models.Model):
    id = variant.community_key()
    slug = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=200)
    is_private = models.BooleanField(default=False)
    members = models.ManyToManyField(UserProfile, related_name='communities', blank=True)

    class Meta:
        db_table = variant.table('communities_community')

    def __str__(self):
        return self.name

    def visible_to(self, profile):
        if not self.is_private:
            return True
        return profile is not None and self.members.filter(pk=profile.pk).exists()
