from django.http import HttpResponse

from board import visitors
from communities.models import Community


def board(request):
    """A line for each community: its name, how many are there, and who. Anybody may read it."""
    communities = list(Community.objects.order_by('pk'))
    counts = visitors.counts(community.pk for community in communities)
    lines = [
        ' '.join([community.slug, str(counts[community.pk]), *visitors.names(community.pk)])
        for community in communities
    ]
    return HttpResponse('\n'.join(lines), content_type='text/plain')
