# What `headcount init` and `headcount check --django` ask a site: run by its own `manage.py shell`, reads only.
import json
import os
import signal
import sys
import uuid
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, ProgrammingError, connections
from django.urls import URLPattern, URLResolver, get_resolver, get_script_prefix, resolve

MOST = 5000
# Most models that are asked for the page of a row, and seconds for all of them.
MOST_PAGES, LONGEST = 500, 20


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
            found.append({'parts': parts, 'name': entry.name or '', 'view': view, 'table': table, 'own_of': []})
            callbacks.append(entry.callback)


class Slow(BaseException):
    """The pages of rows take too long."""


def too_slow(*_):
    raise Slow


def has_rows():
    """Whether the database may be asked for rows; it is not waited for long."""
    default = connections['default'].settings_dict
    engine, name = default.get('ENGINE', ''), str(default.get('NAME', ''))
    if 'postg' in engine:
        default['OPTIONS'] = {'connect_timeout': 5} | (default.get('OPTIONS') or {})
    # SQLite would make a file that does not exist.
    return bool(engine) and ('lite' not in engine or os.path.exists(name))


def sample(model):
    """A row that is not saved."""
    values = {}
    for field in model._meta.concrete_fields:
        kind = field.get_internal_type()
        if field.is_relation or field.has_default() and not field.primary_key:
            continue
        if kind == 'UUIDField':
            values[field.attname] = uuid.uuid4()
        elif 'Integer' in kind or kind.endswith('AutoField'):
            values[field.attname] = 1
        elif kind in ('CharField', 'SlugField', 'TextField'):
            values[field.attname] = 'sample'
    return model(**values)


def rows(model):
    """Some rows: the first may be special, as the root of a tree is."""
    return list(model._base_manager.order_by('pk')[:10])


def page_of(row):
    """The match of the page that a row says is its own, if the path names the row."""
    try:
        path = urlsplit(str(row.get_absolute_url())).path
        match = resolve('/' + path.removeprefix(get_script_prefix()).lstrip('/'))
    except Exception:
        return None
    return match if match.kwargs or match.args else None


def mark_own_pages(found):
    """Marks the patterns of the pages that models say are their rows' own (get_absolute_url)."""
    ways = ([rows] if has_rows() else []) + [lambda model: [sample(model)]]
    models = [model for model in apps.get_models() if hasattr(model, 'get_absolute_url')]
    for model in models[:MOST_PAGES]:
        for way in list(ways):
            try:
                match = next(filter(None, map(page_of, way(model))), None)
            except DatabaseError as error:
                # A table may be missing; a database that is away is not asked again.
                if way is rows and not isinstance(error, ProgrammingError):
                    ways.remove(way)
                continue
            except Exception:
                continue
            if match is None:
                continue
            for pattern, callback in zip(found, callbacks):
                if callback is match.func and pattern['name'] == (match.url_name or ''):
                    pattern['own_of'].append(model._meta.db_table)
            break


SETTINGS = [
    'ALLOWED_HOSTS', 'AUTH_USER_MODEL', 'CSRF_COOKIE_SECURE', 'CSRF_TRUSTED_ORIGINS', 'DEBUG', 'FORCE_SCRIPT_NAME',
    'INSTALLED_APPS', 'MEDIA_URL', 'MIDDLEWARE', 'SECURE_PROXY_SSL_HEADER', 'SECURE_REDIRECT_EXEMPT',
    'SECURE_SSL_REDIRECT',
    'SESSION_COOKIE_DOMAIN', 'SESSION_COOKIE_NAME', 'SESSION_COOKIE_PATH', 'SESSION_COOKIE_SECURE', 'SESSION_ENGINE',
    'SESSION_SERIALIZER', 'STATIC_URL', 'TIME_ZONE', 'USE_TZ', 'USE_X_FORWARDED_HOST', 'USE_X_FORWARDED_PORT',
]
routes, callbacks = [], []
patterns(get_resolver(), [], routes)
signal.signal(signal.SIGALRM, too_slow)
signal.alarm(LONGEST)
try:
    mark_own_pages(routes)
except Slow:
    pass
finally:
    signal.alarm(0)
answer = {
    'settings': known(SETTINGS), 'module': settings.SETTINGS_MODULE, 'cookies': cookies(), 'database': database(),
    'tokens': tokens(), 'models': models(), 'patterns': routes,
}
sys.stdout.write('\nHEADCOUNT %s\n' % json.dumps(answer))
sys.stdout.flush()
