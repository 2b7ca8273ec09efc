from django.http import Http404, JsonResponse
from django.shortcuts import get_object_or_404
from rest_framework.decorators import api_view
from rest_framework.exceptions import NotAuthenticated
from rest_framework.response import Response

from communities.models import Community


def to_json(c):
    return {'id': c.pk, 'slug': c.slug, 'name': c.name, 'is_private': c.is_private}


def visible(request, pk):
    c = get_object_or_404(Community, pk=pk)
    profile = request._request.profile
    if not c.visible_to(profile):
        raise NotAuthenticated if profile is None else Http404
    return c


@api_view(['GET'])
def communities(request):
    profile = request._request.profile
    return Response([
        to_json(c) for c in Community.objects.order_by('slug') if c.visible_to(profile)])


@api_view(['GET'])
def community(request, pk):
    return Response(to_json(visible(request, pk)))


@api_view(['GET'])
def posts(request, pk):
    c = visible(request, pk)
    return Response([{'id': n, 'community_id': c.pk, 'title': f'Post {n}'} for n in range(1, 4)])


def answered_by_backend(request, *args, **kwargs):
    """The site has no such API. Whoever sees this answer has reached the site itself."""
    return JsonResponse({'answered_by': 'backend'})
