from django.conf import settings
from django.contrib.auth import authenticate
from django.http import Http404, HttpResponse, HttpResponseForbidden, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.html import escape
from rest_framework.response import Response
from rest_framework.views import APIView

from clubs import sign_in as sign_ins
from clubs.models import Club, Meeting


def page(title, body):
    return HttpResponse(
        f'<!doctype html><html lang="en"><head><title>{escape(title)}</title></head><body><h1>{escape(title)}</h1>{body}'
        '</body></html>')


def home(request):
    clubs = (club for club in Club.objects.order_by('slug') if club.is_visible_to(request.member))
    return page('Clubs', ''.join(f'<a href="/clubs/{club.slug}/">{escape(club.name)}</a> ' for club in clubs))


def visible(member, slug):
    club = get_object_or_404(Club, slug=slug)
    if not club.is_visible_to(member):
        raise Http404
    return club


def club(request, slug):
    return page(visible(request.member, slug).name, '<p>Welcome.</p>')


def meeting(request, slug, pk):
    found = get_object_or_404(Meeting, pk=pk, club=visible(request.member, slug))
    return page(found.title, '<p>At eight.</p>')


def sign_in(request):
    if request.method != 'POST':
        return page('Sign in', '<form method="post"><input name="username"><input name="password"></form>')
    user = authenticate(username=request.POST.get('username'), password=request.POST.get('password'))
    if user is None:
        return HttpResponseForbidden()
    response = HttpResponseRedirect('/')
    response.set_cookie(settings.CLUBS_SESSION_COOKIE, sign_ins.begin(user.member), httponly=True)
    return response


def sign_out(request):
    if request.sign_in is not None:
        request.sign_in.revoked_at = timezone.now()
        request.sign_in.save(update_fields=['revoked_at'])
    response = HttpResponseRedirect('/')
    response.delete_cookie(settings.CLUBS_SESSION_COOKIE)
    return response


class ClubApi(APIView):
    """A club, for the single-page app, which shows a signed token."""

    def get(self, request, slug):
        found = visible(request.user.member, slug)
        return Response({'id': str(found.pk), 'slug': found.slug, 'name': found.name})
