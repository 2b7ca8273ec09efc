from urllib.parse import unquote, urlsplit


def parse(url):
    """`postgres://user:pass@host:port/name` or `sqlite:///abs/path.db` as Django's dictionary."""
    if url.startswith('sqlite://'):
        return {
            'ENGINE': 'django.db.backends.sqlite3',
            'NAME': url.removeprefix('sqlite://'),
            'CONN_MAX_AGE': 60,
            'OPTIONS': {
                # Another process writes to the same file: readers must not block it, and a
                # transaction that will write must take the lock at its start, because an
                # upgrade of a read lock fails at once instead of waiting.
                'init_command': 'PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;',
                'transaction_mode': 'IMMEDIATE',
                'timeout': 20,
            },
        }
    parts = urlsplit(url)
    if parts.scheme not in ('postgres', 'postgresql'):
        raise ValueError(f'BACKEND_DB: unknown scheme {parts.scheme!r}')
    return {
        'ENGINE': 'django.db.backends.postgresql',
        'NAME': unquote(parts.path.lstrip('/')),
        'USER': unquote(parts.username or ''),
        'PASSWORD': unquote(parts.password or ''),
        'HOST': parts.hostname or '',
        'PORT': str(parts.port or ''),
        'CONN_MAX_AGE': 60,
        'CONN_HEALTH_CHECKS': True,
    }
