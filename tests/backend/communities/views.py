from django.http import Http404, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.html import escape

from communities.models import Community
from community_site.html import page


def visible(request, **lookup):
    """The community; for those who may not see it, it is not there."""
    community = get_object_or_404(Community, **lookup)
    if not community.visible_to(request.profile):
        raise Http404
    return community


def html(title, body):
    return HttpResponse(page(title, body))


def home(request):
    items = ''.join(
        f'<li><a href="/communities/{c.pk}/">{escape(c.name)}</a></li>'
        for c in Community.objects.order_by('slug') if c.visible_to(request.profile))
    return html('Communities', f'<ul>{items}</ul>')


def about(request):
    return html('About', '<p>A site with communities.</p>')


def community(request, pk):
    c = visible(request, pk=pk)
    posts = ''.join(
        f'<li><a href="/communities/{c.pk}/posts/{n}/">Post {n}</a></li>' for n in range(1, 4))
    return html(c.name, f'<ul>{posts}</ul>')


def counts(request, pk):
    """What the site's own pages would show of a community, from its columns alone."""
    c = visible(request, pk=pk)
    return JsonResponse({
        'current_visitors': c.current_visitors,
        'total_visitors': c.total_visitors,
        'page_views': c.page_views,
        'visitors_updated_at': c.visitors_updated_at,
    })


def community_by_slug(request, slug):
    return community(request, visible(request, slug=slug).pk)


def post(request, pk, post):
    return html(f'{visible(request, pk=pk).name}: post {post}', '<p>Text.</p>')


def search(request, pk):
    query = escape(request.GET.get('q', ''))
    return html(f'{visible(request, pk=pk).name}: search', f'<p>Nothing found for "{query}".</p>')


def members_only(request, pk):
    """A page that is private in every community."""
    c = visible(request, pk=pk)
    if request.profile is None or not c.members.filter(pk=request.profile.pk).exists():
        raise Http404
    return html(f'{c.name}: members only', '<p>Welcome.</p>')


def club(request, pk):
    """A page for members: others are sent to where they may join."""
    c = get_object_or_404(Community, pk=pk)
    if request.profile is None or not c.members.filter(pk=request.profile.pk).exists():
        return HttpResponseRedirect(f'/club/{c.pk}/join/')
    return html(f'{c.name}: club', '<p>Welcome.</p>')


def draft(request, pk, author):
    """What a member writes: for its author alone."""
    c = visible(request, pk=pk)
    if request.profile is None or request.profile.pk != author:
        raise Http404
    return html(f'{c.name}: draft', '<p>Text.</p>')


def with_iframe(request, pk):
    c = visible(request, pk=pk)
    return html('A page with a frame', f'<iframe src="/communities/{c.pk}/"></iframe>')
