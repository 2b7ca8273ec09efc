"""The site with a board that says who is where: what it shows, it asks the sidecar for."""
import os

from community_site.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, 'board']  # noqa: F405
ROOT_URLCONF = 'board.urls'

HEADCOUNT_URL = os.environ['HEADCOUNT_URL']
HEADCOUNT_KEY = os.environ['HEADCOUNT_KEY']
