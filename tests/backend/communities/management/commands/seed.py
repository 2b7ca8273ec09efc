from django.core.management.base import BaseCommand

from communities.management.output import dumps
from communities.seeding import seed


def names(text):
    return [name.strip() for name in text.split(',') if name.strip()]


class Command(BaseCommand):
    help = 'Creates users, profiles, communities and memberships; prints their ids as JSON.'

    def add_arguments(self, parser):
        parser.add_argument('--members', type=names, default=[], help='alice,bob')
        parser.add_argument('--outsiders', type=names, default=[], help='users of no community')
        parser.add_argument(
            '--communities', default='', help='42:rust,43:django,44:hidden:private[:alice+bob]')
        parser.add_argument('--avatars', type=names, default=[], help='who has a picture')
        parser.add_argument('--sign-in', type=names, default=[], help='who gets a session')

    def handle(self, *args, **o):
        self.stdout.write(dumps(seed(
            o['members'], o['outsiders'], o['communities'], o['avatars'], o['sign_in'])))
