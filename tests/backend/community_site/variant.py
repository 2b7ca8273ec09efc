"""The shapes of the schema. `BACKEND_VARIANT=uuid` is the site of somebody who never kept
Django's defaults: other table and column names, other key types, another cookie. `text` differs from
the default in its communities alone: their primary key is a slug. `django` is the default with Django's own
sessions, which name the account instead of the profile. `counters` is the default with counts in the model of
communities."""
import os
import uuid

from django.db import models

NAME = os.environ.get('BACKEND_VARIANT', '') or 'default'
UUID = NAME == 'uuid'
TEXT = NAME == 'text'
DJANGO = NAME == 'django'
COUNTERS = NAME == 'counters'

SESSION_COOKIE = {'uuid': 'sid', 'django': 'sessionid'}.get(NAME, 'session_id')
# Where the migrations of apps are that have others than the default's.
MIGRATIONS = {'accounts': {'uuid'}, 'communities': {'uuid', 'text', 'counters'}}
# The path converter for primary keys in URLs.
PK = {'uuid': 'any_uuid', 'text': 'slug'}.get(NAME, 'int')

_TABLES = {
    'accounts_userprofile': 'people_profile',
    'accounts_usersession': 'people_browsersession',
    'accounts_userevent': 'people_activity',
    'communities_community': 'groups_group',
}
_COLUMNS = {
    'session_id': 'token',
    'timestamp': 'occurred_at',
}


def table(name):
    return _TABLES[name] if UUID else name


def column(name):
    return _COLUMNS[name] if UUID else name


def uuid_key():
    return models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)


def big_key():
    return models.BigAutoField(
        auto_created=True, primary_key=True, serialize=False, verbose_name='ID')


def migrations(app):
    return f'{app}.migrations_{NAME}' if NAME in MIGRATIONS[app] else f'{app}.migrations'


class AnyUuid:
    """A uuid in every spelling that Python reads."""
    regex = '[^/]+'

    def to_python(self, value):
        return uuid.UUID(value)

    def to_url(self, value):
        return str(value)


def primary_key():
    return uuid_key() if UUID else big_key()


def community_key():
    return models.SlugField(primary_key=True, max_length=50) if TEXT else primary_key()


def community_key_for(given, slug):
    """The key that a community of test data gets."""
    return key_for('community', slug) or (given if TEXT else int(given))


def profile_key(account):
    """The key that an account's profile gets, never the account's own; None where the database numbers the rows."""
    return 1000 + account.pk if DJANGO else key_for('profile', account.username)


def key_for(kind, name):
    """The key that test data gets for a name; None where the database numbers the rows."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f'{kind}:{name}') if UUID else None
