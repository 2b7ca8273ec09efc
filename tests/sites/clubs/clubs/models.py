import uuid

from django.conf import settings
from django.db import models
from django.urls import reverse


def table(name):
    """A table in the app's own schema of Postgres."""
    return f'club_app"."{name}'


class Base(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    class Meta:
        abstract = True


class Member(Base):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    photo = models.CharField(max_length=200, blank=True)
    last_seen = models.DateTimeField(null=True)
    is_hidden = models.BooleanField(default=False)

    class Meta:
        db_table = table('member')


class SignIn(Base):
    member = models.ForeignKey(Member, on_delete=models.CASCADE)
    # SHA-256 of the cookie's value, in hexadecimal digits.
    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        db_table = table('sign_in')


class Club(Base):
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=100)
    is_private = models.BooleanField(default=False)
    members = models.ManyToManyField(Member, db_table=table('club_members'))

    class Meta:
        db_table = table('club')

    def get_absolute_url(self):
        return reverse('club', args=[self.slug])

    def is_visible_to(self, member):
        return not self.is_private or (member is not None and self.members.filter(pk=member.pk).exists())


class Meeting(Base):
    club = models.ForeignKey(Club, on_delete=models.CASCADE)
    title = models.CharField(max_length=100)

    class Meta:
        db_table = table('meeting')
