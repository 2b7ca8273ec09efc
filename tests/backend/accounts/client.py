"""What a request says about its client."""
import ipaddress


def ip(request):
    # The first entry, as many sites have it. It is the client's to forge, but this site's
    # own rows are all that depends on it.
    forwarded = request.META.get('HTTP_X_FORWARDED_FOR', '').split(',')[0].strip()
    try:
        return str(ipaddress.ip_address(forwarded or request.META.get('REMOTE_ADDR', '')))
    except ValueError:
        # A UNIX socket has no address.
        return '127.0.0.1'


def user_agent(request):
    return request.META.get('HTTP_USER_AGENT', '')


def device(request):
    mobile = 'Mobi' in user_agent(request)
    return {'device_type': 'mobile' if mobile else 'desktop', 'is_mobile': mobile}
