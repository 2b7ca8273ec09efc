import os
from pathlib import Path

from community_site import databases, variant

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = 'a-constant-for-tests-only-of-32-bytes'
DEBUG = False
ALLOWED_HOSTS = ['*']
ROOT_URLCONF = 'community_site.urls'
WSGI_APPLICATION = 'community_site.wsgi.application'
USE_X_FORWARDED_HOST = False

# As a site behind a proxy that ends TLS: plain http is redirected.
if os.environ.get('BACKEND_HTTPS_ONLY') == '1':
    SECURE_SSL_REDIRECT = True
    SECURE_PROXY_SSL_HEADER = ('HTTP_X_FORWARDED_PROTO', 'https')

INSTALLED_APPS = [
    'django.contrib.contenttypes',
    'django.contrib.auth',
    'rest_framework',
    'accounts',
    'communities',
    'analytics',
    'fidelity',
    'testing',
]

# Django's own sessions, or the site's.
SESSION_MIDDLEWARE = ['accounts.middleware.UserSessionMiddleware']
if variant.DJANGO:
    INSTALLED_APPS.append('django.contrib.sessions')
    SESSION_ENGINE = os.environ.get('BACKEND_SESSION_ENGINE', 'django.contrib.sessions.backends.db')
    SESSION_MIDDLEWARE = [
        'django.contrib.sessions.middleware.SessionMiddleware',
        'django.contrib.auth.middleware.AuthenticationMiddleware',
        'accounts.middleware.ProfileMiddleware',
    ]

MIDDLEWARE = [
    'django.middleware.security.SecurityMiddleware',
    'django.middleware.common.CommonMiddleware',
    *SESSION_MIDDLEWARE,
    'analytics.middleware.AnalyticsTrackingMiddleware',
]
if os.environ.get('BACKEND_CHECKS_FORMS') == '1':
    MIDDLEWARE.append('django.middleware.csrf.CsrfViewMiddleware')

DATABASES = {
    'default': databases.parse(
        os.environ.get('BACKEND_DB', f'sqlite://{BASE_DIR / "backend.db"}')),
}
DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'
MIGRATION_MODULES = {app: variant.migrations(app) for app in ('accounts', 'communities')}

# Sign-ins are part of nearly every test; a slow hash would only slow them.
PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']

REST_FRAMEWORK = {
    'DEFAULT_AUTHENTICATION_CLASSES': ['accounts.authentication.UserSessionAuthentication'],
    'DEFAULT_RENDERER_CLASSES': ['rest_framework.renderers.JSONRenderer'],
}

USE_TZ = True
TIME_ZONE = 'UTC'
USE_I18N = False
STATIC_URL = '/static/'
STATIC_DIR = BASE_DIR / 'static'
MEDIA_URL = '/media/'
MEDIA_ROOT = BASE_DIR / 'media'

# The site's own page view tracking, and the endpoints that only tests may have.
TRACKS = os.environ.get('BACKEND_TRACKS') == '1'
TEST_ENDPOINTS = os.environ.get('BACKEND_TEST_ENDPOINTS') == '1'

LOGGING = {
    'version': 1,
    'disable_existing_loggers': False,
    'handlers': {'stderr': {'class': 'logging.StreamHandler'}},
    # Errors with their traceback; a 404 is not worth a line.
    'loggers': {'django.request': {'handlers': ['stderr'], 'level': 'ERROR', 'propagate': False}},
}
