"""A forum as django-machina's manual has it, with Django's own sessions."""
import os
from pathlib import Path

from machina import MACHINA_MAIN_STATIC_DIR, MACHINA_MAIN_TEMPLATE_DIR

BASE_DIR = Path(__file__).resolve().parent
# What the site writes. The tests give each site a folder.
WORK_DIR = Path(os.environ.get('SITE_WORK_DIR', '/tmp'))

SECRET_KEY = 'a-constant-for-tests-only'
DEBUG = False
ALLOWED_HOSTS = ['*']
ROOT_URLCONF = 'urls'
WSGI_APPLICATION = 'wsgi.application'

INSTALLED_APPS = [
    'django.contrib.admin',
    'django.contrib.auth',
    'django.contrib.contenttypes',
    'django.contrib.sessions',
    'django.contrib.messages',
    'django.contrib.staticfiles',
    'mptt',
    'haystack',
    'widget_tweaks',
    'machina',
    'machina.apps.forum',
    'machina.apps.forum_conversation',
    'machina.apps.forum_conversation.forum_attachments',
    'machina.apps.forum_conversation.forum_polls',
    'machina.apps.forum_feeds',
    'machina.apps.forum_moderation',
    'machina.apps.forum_search',
    'machina.apps.forum_tracking',
    'machina.apps.forum_member',
    'machina.apps.forum_permission',
]

MIDDLEWARE = [
    'django.middleware.security.SecurityMiddleware',
    'django.contrib.sessions.middleware.SessionMiddleware',
    'django.middleware.common.CommonMiddleware',
    'django.middleware.csrf.CsrfViewMiddleware',
    'django.contrib.auth.middleware.AuthenticationMiddleware',
    'django.contrib.messages.middleware.MessageMiddleware',
    'django.middleware.clickjacking.XFrameOptionsMiddleware',
    'machina.apps.forum_permission.middleware.ForumPermissionMiddleware',
]
LOGIN_URL = '/accounts/login/'
LOGIN_REDIRECT_URL = '/forum/'
LOGOUT_REDIRECT_URL = '/forum/'

TEMPLATES = [{
    'BACKEND': 'django.template.backends.django.DjangoTemplates',
    'DIRS': [BASE_DIR / 'templates', MACHINA_MAIN_TEMPLATE_DIR],
    'APP_DIRS': True,
    'OPTIONS': {'context_processors': [
        'django.contrib.auth.context_processors.auth',
        'django.template.context_processors.request',
        'django.contrib.messages.context_processors.messages',
        'machina.core.context_processors.metadata',
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
    for name in ('default', 'machina_attachments')
}
HAYSTACK_CONNECTIONS = {'default': {'ENGINE': 'haystack.backends.simple_backend.SimpleEngine'}}
MACHINA_DEFAULT_AUTHENTICATED_USER_FORUM_PERMISSIONS = ['can_see_forum', 'can_read_forum']
# Sign-ins are part of each test; a slow hash would only slow them.
PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']

USE_TZ = True
TIME_ZONE = 'UTC'
STATIC_URL = '/static/'
STATICFILES_DIRS = [MACHINA_MAIN_STATIC_DIR]
MEDIA_URL = '/media/'
MEDIA_ROOT = WORK_DIR / 'media'
DEFAULT_AUTO_FIELD = 'django.db.models.AutoField'
