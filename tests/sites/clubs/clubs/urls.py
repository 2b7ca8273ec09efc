from django.urls import path
from rest_framework_simplejwt.views import TokenObtainPairView

from clubs import views

urlpatterns = [
    path('', views.home, name='home'),
    path('sign-in/', views.sign_in, name='sign-in'),
    path('sign-out/', views.sign_out, name='sign-out'),
    path('clubs/<slug:slug>/', views.club, name='club'),
    path('clubs/<slug:slug>/meetings/<uuid:pk>/', views.meeting, name='meeting'),
    path('api/token/', TokenObtainPairView.as_view(), name='token'),
    path('api/clubs/<slug:slug>/', views.ClubApi.as_view(), name='club-api'),
]
