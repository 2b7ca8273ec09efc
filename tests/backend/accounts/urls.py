from django.urls import path

from accounts import jwt_views, views

urlpatterns = [
    path('accounts/login/', views.login),
    path('accounts/logout/', views.logout),
    path('accounts/me/', views.me),
    path('account/', views.account),
    path('api/track-page-visit/', jwt_views.track_page_visit),
    path('api/token/', jwt_views.pair),
    path('api/token/refresh/', jwt_views.refresh),
]
