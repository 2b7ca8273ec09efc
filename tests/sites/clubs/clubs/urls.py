from django.conf import settings
from django.urls import path
from django.views.static import serve

from clubs import views

urlpatterns = [
    path('', views.home, name='home'),
    path('sign-in/', views.sign_in, name='sign-in'),
    path('sign-out/', views.sign_out, name='sign-out'),
    path('clubs/<slug:slug>/', views.club, name='club'),
    path('clubs/<slug:slug>/meetings/<uuid:pk>/', views.meeting, name='meeting'),
    path('notices/club/<slug:slug>/', views.club_notices, name='club-notices'),
    path('clubs/<slug:slug>/members/', views.members, name='members'),
    path('clubs/<slug:slug>/join/', views.join, name='join'),
    path('clubs/<slug:slug>/meetings.csv', views.export, name='export'),
    path('upload/', views.upload, name='upload'),
    path('files/<path:path>', serve, {'document_root': settings.FILES}),
    path('api/token/', views.Token.as_view(), name='token'),
    path('api/clubs/<slug:slug>/', views.ClubApi.as_view(), name='club-api'),
]
