import json
import urllib.request

from django.conf import settings


def ask(path):
    request = urllib.request.Request(
        settings.HEADCOUNT_URL + path,
        headers={'Authorization': f'Bearer {settings.HEADCOUNT_KEY}'})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def counts(communities):
    ids = ','.join(str(community) for community in communities)
    return {one['community_id']: one['current_visitors']
            for one in ask(f'/api/visitors/counts?communities={ids}')['counts']}


def names(community):
    return [visitor['username']
            for visitor in ask(f'/api/communities/{community}/visitors')['visitors']]
