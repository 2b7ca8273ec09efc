"""A forum as the manuals of django-spirit and django-user-sessions have it: the project template of the one,
with the session engine, middleware and app of the other."""
import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent
# What the site writes: its search index. The tests give each site a folder.
WORK_DIR = Path(os.environ.get('SITE_WORK_DIR', '/tmp'))

SECRET_KEY = 'a-constant-for-tests-only'
DEBUG = False
ALLOWED_HOSTS = ['*']
ROOT_URLCONF = 'urls'
WSGI_APPLICATION = 'wsgi.application'
ST_SITE_URL = 'http://site.test/'

INSTALLED_APPS = [
    'django.contrib.admin',
    'django.contrib.auth',
    'django.contrib.contenttypes',
    'django.contrib.messages',
    'django.contrib.staticfiles',
    'django.contrib.humanize',
    'user_sessions',
    'spirit.core',
    'spirit.admin',
    'spirit.search',
    'spirit.user',
    'spirit.user.admin',
    'spirit.user.auth',
    'spirit.category',
    'spirit.category.admin',
    'spirit.topic',
    'spirit.topic.admin',
    'spirit.topic.favorite',
    'spirit.topic.moderate',
    'spirit.topic.notification',
    'spirit.topic.private',
    'spirit.topic.unread',
    'spirit.comment',
    'spirit.comment.bookmark',
    'spirit.comment.flag',
    'spirit.comment.flag.admin',
    'spirit.comment.history',
    'spirit.comment.like',
    'spirit.comment.poll',
    'djconfig',
    'haystack',
]

MIDDLEWARE = [
    'django.middleware.security.SecurityMiddleware',
    'user_sessions.middleware.SessionMiddleware',
    'django.middleware.locale.LocaleMiddleware',
    'django.middleware.common.CommonMiddleware',
    'django.middleware.csrf.CsrfViewMiddleware',
    'django.contrib.auth.middleware.AuthenticationMiddleware',
    'django.contrib.messages.middleware.MessageMiddleware',
    'django.middleware.clickjacking.XFrameOptionsMiddleware',
    'spirit.user.middleware.TimezoneMiddleware',
    'spirit.user.middleware.LastIPMiddleware',
    'spirit.user.middleware.LastSeenMiddleware',
    'spirit.user.middleware.ActiveUserMiddleware',
    'spirit.core.middleware.PrivateForumMiddleware',
    'djconfig.middleware.DjConfigMiddleware',
]
SESSION_ENGINE = 'user_sessions.backends.db'
SILENCED_SYSTEM_CHECKS = ['admin.E410']  # the other session middleware, as its manual says
LOGIN_URL = 'spirit:user:auth:login'
LOGIN_REDIRECT_URL = 'spirit:user:update'
LOGOUT_REDIRECT_URL = 'spirit:index'
AUTHENTICATION_BACKENDS = [
    'spirit.user.auth.backends.UsernameAuthBackend',
    'spirit.user.auth.backends.EmailAuthBackend',
]

TEMPLATES = [{
    'BACKEND': 'django.template.backends.django.DjangoTemplates',
    'APP_DIRS': True,
    'OPTIONS': {'context_processors': [
        'django.contrib.auth.context_processors.auth',
        'django.template.context_processors.i18n',
        'django.template.context_processors.media',
        'django.template.context_processors.static',
        'django.template.context_processors.tz',
        'django.template.context_processors.request',
        'django.contrib.messages.context_processors.messages',
        'djconfig.context_processors.config',
    ]},
}]

DATABASES = {'default': {
    'ENGINE': 'django.db.backends.postgresql',
    'HOST': '127.0.0.1',
    'PORT': os.environ.get('SITE_DB_PORT', ''),
    'NAME': os.environ.get('SITE_DB', ''),
    'USER': 'postgres',
    'CONN_MAX_AGE': 60,
}}
CACHES = {
    name: {'BACKEND': 'django.core.cache.backends.locmem.LocMemCache', 'LOCATION': name}
    for name in ('default', 'st_rate_limit')
}
HAYSTACK_CONNECTIONS = {'default': {
    'ENGINE': 'haystack.backends.whoosh_backend.WhooshEngine',
    'PATH': str(WORK_DIR / 'search'),
}}
# Sign-ins are part of each test; a slow hash would only slow them, and a limit would refuse them.
ST_RATELIMIT_ENABLE = False
PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']

USE_TZ = True
TIME_ZONE = 'UTC'
STATIC_URL = '/static/'
MEDIA_URL = '/media/'
MEDIA_ROOT = WORK_DIR / 'media'
