import csv
import hashlib

from django.conf import settings
from django.contrib.auth import authenticate
from django.http import (
    Http404, HttpResponse, HttpResponseForbidden, HttpResponseRedirect, JsonResponse, StreamingHttpResponse)
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.html import escape
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer
from rest_framework_simplejwt.views import TokenObtainPairView

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


def members(request, slug):
    return page('Members', ''.join(f'<p>{member.user}</p>' for member in visible(request.member, slug).members.all()))


def join(request, slug):
    """For those who are not members, too."""
    return page('Join ' + get_object_or_404(Club, slug=slug).name, '<form method="post"><button>Join</button></form>')


def club_notices(request, slug):
    """Settings of notices, of any club."""
    return page('Notices of ' + get_object_or_404(Club, slug=slug).name, '<form method="post"><button>Mute</button></form>')


class Line:
    """A file of which each line is sent when it is written."""

    def write(self, line):
        return line


def export(request, slug):
    rows = csv.writer(Line())
    lines = (rows.writerow([found.pk, found.title])
             for found in Meeting.objects.filter(club=visible(request.member, slug)).order_by('pk'))
    return StreamingHttpResponse(lines, content_type='text/csv', headers={'Content-Disposition': 'attachment'})


def upload(request):
    file = request.FILES.get('file')
    if file is None:
        return JsonResponse({'error': 'no file'}, status=400)
    return JsonResponse({'name': file.name, 'size': file.size, 'sha256': hashlib.sha256(file.read()).hexdigest()})


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


class TokenSerializer(TokenObtainPairSerializer):
    @classmethod
    def get_token(cls, user):
        token = super().get_token(user)
        token['member'] = str(user.member.pk)
        return token


class Token(TokenObtainPairView):
    """A token that names the member, too."""

    serializer_class = TokenSerializer


class ClubApi(APIView):
    """A club, for the single-page app, which shows a signed token."""

    def get(self, request, slug):
        found = visible(request.user.member, slug)
        return Response({'id': str(found.pk), 'slug': found.slug, 'name': found.name})
