from django.contrib import auth
from django.contrib.auth import authenticate
from django.http import HttpResponse, HttpResponseRedirect
from django.utils.html import escape
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from accounts import client, sessions
from community_site import variant
from community_site.html import page


@require_http_methods(['GET', 'HEAD', 'POST'])
def login(request):
    if request.method != 'POST':
        return login_form(request.GET.get('next', ''))
    user = authenticate(
        username=request.POST.get('username', ''), password=request.POST.get('password', ''))
    if user is None:
        return login_form(request.POST.get('next', ''), 'Wrong username or password.', 403)

    if variant.DJANGO:
        auth.login(request, user)
        return HttpResponseRedirect(next_url(request))
    session = sessions.start(
        user.profile,
        ip_address=client.ip(request),
        user_agent=client.user_agent(request),
        device_info=client.device(request),
        remember=bool(request.POST.get('remember')),
    )
    response = HttpResponseRedirect(next_url(request))
    response.set_cookie(
        variant.SESSION_COOKIE, session.session_id, expires=session.expires_at,
        path='/', httponly=True, samesite='Lax')
    return response


@require_POST
def logout(request):
    if variant.DJANGO:
        auth.logout(request)
        return HttpResponseRedirect(next_url(request))
    if request.user_session:
        sessions.end(request.user_session, 'logout')
    response = HttpResponseRedirect(next_url(request))
    response.delete_cookie(variant.SESSION_COOKIE, path='/', samesite='Lax')
    return response


def account(request):
    """The own account. A browser whose session is gone, or whose account is disabled, is signed out."""
    if request.profile and request.user.is_active:
        return HttpResponse(page('Account', f'<p>{escape(request.user.username)}</p>'))
    response = HttpResponse(page('Account', '<p>You are signed out.</p>'))
    response.delete_cookie(variant.SESSION_COOKIE, path='/', samesite='Lax')
    return response


def next_url(request):
    url = request.POST.get('next') or request.GET.get('next') or '/'
    return url if url_has_allowed_host_and_scheme(url, {request.get_host()}) else '/'


def login_form(next_page, error='', status=200):
    return HttpResponse(page('Sign in', f'''
<p>{error}</p>
<form method="post" action="/accounts/login/">
<input name="username" autocomplete="username">
<input name="password" type="password" autocomplete="current-password">
<label><input name="remember" type="checkbox" value="1">Remember me</label>
<input name="next" type="hidden" value="{escape(next_page)}">
<button>Sign in</button>
</form>'''), status=status)


def me(request):
    name = request.profile.username if request.profile else ''
    return HttpResponse(f'{name}\n', content_type='text/plain')
