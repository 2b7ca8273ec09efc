"""The two shapes of the schema. `BACKEND_VARIANT=uuid` is the site of somebody who never kept
Django's defaults: other table and column names, other key types, another cookie."""
import os
import uuid

from django.db import models

UUID = os.environ.get('BACKEND_VARIANT', '') == 'uuid'

NAME = 'uuid' if UUID else 'default'
SESSION_COOKIE = 'sid' if UUID else 'session_id'
MIGRATIONS = 'migrations_uuid' if UUID else 'migrations'
# The path converter for primary keys in URLs.
PK = 'uuid' if UUID else 'int'

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


def primary_key():
    return uuid_key() if UUID else big_key()


def key_for(kind, name):
    """The key that test data gets for a name; None where the database numbers the rows."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f'{kind}:{name}') if UUID else None
