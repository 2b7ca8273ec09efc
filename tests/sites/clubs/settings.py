"""A site that does everything by itself and in its own way: uuid keys, tables in a schema of their own, names in `auth_user`
only, a table of sign-ins that holds hashes, pages under slugs, and an API with signed tokens beside the pages."""
import os
from pathlib import Path

SECRET_KEY = 'a-constant-for-tests-only-of-32-bytes'
DEBUG = False
ALLOWED_HOSTS = ['*']
ROOT_URLCONF = 'clubs.urls'
WSGI_APPLICATION = 'wsgi.application'

INSTALLED_APPS = ['django.contrib.contenttypes', 'django.contrib.auth', 'rest_framework', 'clubs']
MIDDLEWARE = [
    'django.middleware.security.SecurityMiddleware',
    'django.middleware.common.CommonMiddleware',
    'clubs.sign_in.SignInMiddleware',
]
CLUBS_SESSION_COOKIE = 'club'

DATABASES = {'default': {
    'ENGINE': 'django.db.backends.postgresql',
    'HOST': '127.0.0.1',
    'PORT': os.environ.get('SITE_DB_PORT', ''),
    'NAME': os.environ.get('SITE_DB', ''),
    'USER': 'postgres',
    # Behind a pooler that lends its connections by the transaction.
    'DISABLE_SERVER_SIDE_CURSORS': True,
}}
REST_FRAMEWORK = {
    'DEFAULT_AUTHENTICATION_CLASSES': ['rest_framework_simplejwt.authentication.JWTAuthentication'],
    'DEFAULT_PERMISSION_CLASSES': ['rest_framework.permissions.IsAuthenticated'],
    'DEFAULT_RENDERER_CLASSES': ['rest_framework.renderers.JSONRenderer'],
}
SIMPLE_JWT = {'ALGORITHM': 'HS256', 'USER_ID_CLAIM': 'user_id', 'ISSUER': 'clubs.test'}
# Sign-ins are part of each test; a slow hash would only slow them.
PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']

USE_TZ = True
TIME_ZONE = 'UTC'
STATIC_URL = '/static/'
MEDIA_URL = '/files/'
FILES = Path(__file__).resolve().parent / 'files'
DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'
