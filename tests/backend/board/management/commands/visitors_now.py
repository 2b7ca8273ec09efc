from django.core.management.base import BaseCommand

from board import visitors


class Command(BaseCommand):
    help = 'Prints how many are in each of these communities, as a task would note it.'

    def add_arguments(self, parser):
        parser.add_argument('communities', nargs='+')

    def handle(self, *args, communities, **options):
        for community, count in visitors.counts(communities).items():
            self.stdout.write(f'{community} {count}')
