"""Test data by name. Seeding twice changes nothing."""
from django.contrib.auth.models import User
from django.core.management.color import no_style
from django.db import connection, transaction

from accounts import sessions
from accounts.models import UserProfile
from communities.models import Community
from community_site import variant


@transaction.atomic
def seed(members=(), outsiders=(), communities='', avatars=(), sign_in=()):
    """`communities` is `id:slug[:private[:member+member]]`, comma-separated; without its own
    list, a community has all `members`. Returns the ids by name."""
    everyone = {name: profile(name, name in avatars) for name in [*members, *outsiders, *sign_in]}
    groups = {}
    for spec in filter(None, communities.split(',')):
        pk, slug, *rest = spec.strip().split(':')
        private, own = [*rest, '', ''][:2]
        group, _ = Community.objects.update_or_create(
            pk=variant.community_key_for(pk, slug),
            defaults={'slug': slug, 'name': slug.title(), 'is_private': private == 'private'})
        names = own.split('+') if own else members
        group.members.set([everyone.get(n) or profile(n) for n in names])
        groups[slug] = group.pk
    number_on_from_given_keys()
    return {
        'variant': variant.NAME,
        'cookie': variant.SESSION_COOKIE,
        'users': {name: p.pk for name, p in everyone.items()},
        'communities': groups,
        'tokens': {name: sessions.start(everyone[name]).session_id for name in sign_in},
    }


def profile(name, avatar=False):
    user, created = User.objects.get_or_create(username=name)
    if created:
        user.set_password(f'{name}-pw')
        user.save()
    key = variant.profile_key(user)
    found, _ = UserProfile.objects.get_or_create(
        user=user, defaults={'username': name, **({'pk': key} if key else {})})
    if avatar:
        found.profile_picture = f'avatars/{name}.png'
        found.save(update_fields=['profile_picture'])
    return found


def number_on_from_given_keys():
    # A key given by hand does not move the sequence.
    statements = connection.ops.sequence_reset_sql(no_style(), [Community])
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)
