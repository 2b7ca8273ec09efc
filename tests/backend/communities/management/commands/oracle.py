from datetime import datetime

from django.core.management.base import BaseCommand

from communities import oracle
from communities.management.output import dumps


class Command(BaseCommand):
    help = "Prints what the site's own code says about its rows, as one JSON document."

    def add_arguments(self, parser):
        what = parser.add_subparsers(dest='what', required=True)
        for name in ('stats', 'visitors'):
            sub = what.add_parser(name)
            sub.add_argument('community_id')
            sub.add_argument('--now', type=datetime.fromisoformat, help='ISO 8601 with a zone')
            if name == 'stats':
                sub.add_argument('--days', type=int, default=30)
            else:
                sub.add_argument('--all', action='store_true', help='historical visitors')
        what.add_parser('events').add_argument('--community')
        for name in ('sessions', 'profiles', 'communities'):
            what.add_parser(name)

    def handle(self, *args, **o):
        self.stdout.write(dumps(getattr(self, o['what'])(o)))

    def stats(self, o):
        return oracle.stats(o['community_id'], o['days'], o['now'])

    def visitors(self, o):
        return oracle.visitors(o['community_id'], not o['all'], o['now'])

    def events(self, o):
        return oracle.events(o['community'])

    def sessions(self, o):
        return oracle.sessions()

    def profiles(self, o):
        return oracle.profiles()

    def communities(self, o):
        return oracle.communities()
