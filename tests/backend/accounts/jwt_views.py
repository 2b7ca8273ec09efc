from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response

from accounts import client
from accounts.models import UserEvent


@api_view(['POST'])
@permission_classes([IsAuthenticated])
def track_page_visit(request):
    """Track page visit by creating UserEvent with URL metadata"""
    url = request.data.get('url', request.path)

    UserEvent.objects.create(
        user=request.user.profile,
        event_type='page_view',
        description=f'Page visit: {url}',
        metadata={'url': url, 'referrer': request.META.get('HTTP_REFERER')},
        ip_address=client.ip(request),
    )
    return Response({'status': 'ok'})
