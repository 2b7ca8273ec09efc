# What `headcount init` and `headcount check --django` ask a site: run by its own `manage.py shell`, reads only.
import json
import os
import sys

from django.apps import apps
from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

MOST = 5000


def simple(value):
    if isinstance(value, (list, tuple)):
        return [simple(item) for item in value][:200]
    return value if isinstance(value, (str, bool, int, float)) or value is None else str(value)


def known(names):
    return {name: simple(getattr(settings, name)) for name in names if hasattr(settings, name)}


def cookies():
    """Further names of cookies, by setting."""
    found = {}
    for name in dir(settings):
        if 'COOKIE' in name and name.isupper() and not name.startswith(('CSRF_', 'LANGUAGE_', 'MESSAGES_', 'SESSION_COOKIE_')):
            value = getattr(settings, name)
            if isinstance(value, str) and value:
                found[name] = value
    return found


def database():
    wanted = ('ENGINE', 'NAME', 'USER', 'PASSWORD', 'HOST', 'PORT', 'TIME_ZONE')
    default = settings.DATABASES.get('default', {})
    found = {name: str(default[name]) for name in wanted if default.get(name) not in (None, '')}
    name = found.get('NAME', '')
    if 'lite' in found.get('ENGINE', '') and not name.startswith(('file:', ':')):
        found['NAME'] = os.path.abspath(name)
    options = default.get('OPTIONS') or {}
    in_urls = ('sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'options')
    return found | {'OPTIONS': {name: str(options[name]) for name in in_urls if options.get(name)}}


def tokens():
    """Of djangorestframework-simplejwt's settings, those that are no secrets."""
    given = getattr(settings, 'SIMPLE_JWT', None)
    if not isinstance(given, dict):
        return None
    wanted = ('ALGORITHM', 'USER_ID_CLAIM', 'ISSUER', 'AUDIENCE')
    return {name: simple(given[name]) for name in wanted if given.get(name) is not None}


def default_of(field):
    """The default of a field where it is a plain value."""
    value = field.default if field.has_default() else None
    if callable(value):
        return None
    return value if isinstance(value, (str, bool, int)) else None


def choices_of(field):
    """The values that a text may have, where there is a list of them."""
    values = [value for value, _ in field.flatchoices or []]
    return [value for value in values if isinstance(value, str)][:MOST]


def described(field):
    related = field.related_model._meta if field.is_relation and field.related_model else None
    target = None
    if related is not None:
        target = {'table': related.db_table, 'column': field.target_field.column}
    return {
        'name': field.name,
        'column': field.column,
        'type': field.get_internal_type(),
        'key': field.primary_key,
        'unique': field.unique,
        'refers': target,
        'default': default_of(field),
        'choices': choices_of(field),
    }


def models():
    return [{
        'app': model._meta.app_label,
        'model': model._meta.model_name,
        'table': model._meta.db_table,
        'fields': [described(field) for field in model._meta.concrete_fields],
    } for model in apps.get_models(include_auto_created=True) if not model._meta.proxy][:MOST]


def regex_of(part):
    if type(part).__name__ == 'LocalePrefixPattern':
        codes = '|'.join(code for code, _ in settings.LANGUAGES)
        return '(?:(?:%s)/)?' % codes
    return part.regex.pattern


def view_of(callback):
    """The view's name, and the table of its model where it has one."""
    view = getattr(callback, 'view_class', None) or getattr(callback, 'cls', None)
    model = getattr(view, 'model', None)
    if model is None:
        model = getattr(getattr(view, 'queryset', None), 'model', None)
    meta = getattr(model, '_meta', None)
    named = view or callback
    module, name = getattr(named, '__module__', ''), getattr(named, '__qualname__', type(named).__name__)
    return '%s.%s' % (module, name), getattr(meta, 'db_table', None)


def patterns(resolver, before, found):
    for entry in resolver.url_patterns:
        if len(found) >= MOST:
            return
        parts = before + [regex_of(entry.pattern)]
        if isinstance(entry, URLResolver):
            patterns(entry, parts, found)
        elif isinstance(entry, URLPattern):
            view, table = view_of(entry.callback)
            found.append({'parts': parts, 'name': entry.name or '', 'view': view, 'table': table})


SETTINGS = [
    'ALLOWED_HOSTS', 'AUTH_USER_MODEL', 'CSRF_COOKIE_SECURE', 'CSRF_TRUSTED_ORIGINS', 'DEBUG', 'FORCE_SCRIPT_NAME',
    'INSTALLED_APPS', 'MEDIA_URL', 'MIDDLEWARE', 'SECURE_PROXY_SSL_HEADER', 'SECURE_REDIRECT_EXEMPT',
    'SECURE_SSL_REDIRECT',
    'SESSION_COOKIE_DOMAIN', 'SESSION_COOKIE_NAME', 'SESSION_COOKIE_PATH', 'SESSION_COOKIE_SECURE', 'SESSION_ENGINE',
    'SESSION_SERIALIZER', 'STATIC_URL', 'TIME_ZONE', 'USE_TZ', 'USE_X_FORWARDED_HOST', 'USE_X_FORWARDED_PORT',
]
routes = []
patterns(get_resolver(), [], routes)
answer = {
    'settings': known(SETTINGS), 'cookies': cookies(), 'database': database(), 'tokens': tokens(), 'models': models(),
    'patterns': routes,
}
sys.stdout.write('\nHEADCOUNT %s\n' % json.dumps(answer))
sys.stdout.flush()
