from django.http import Http404
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from accounts import client, sessions
from accounts.models import UserEvent
from communities.models import Community


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


class PairSerializer(TokenObtainPairSerializer):
    """Tokens that also name the profile, and a browser session that begins with them."""

    @classmethod
    def get_token(cls, user):
        token = super().get_token(user)
        token['profile_id'] = str(user.profile.pk)
        token['sid'] = str(sessions.start(user.profile).pk)
        return token


class Pair(TokenObtainPairView):
    serializer_class = PairSerializer


pair = Pair.as_view()
refresh = TokenRefreshView.as_view()


@api_view(['GET'])
@authentication_classes([JWTAuthentication])
@permission_classes([IsAuthenticated])
def feed(request, pk):
    """What a single-page app shows of a community"""
    community = Community.objects.filter(pk=pk).first()
    if community is None or not community.visible_to(request.user.profile):
        raise Http404
    return Response({'community_id': community.pk, 'posts': []})
