from django.urls import include, path

from board import views

urlpatterns = [
    path('board/', views.board),
    path('', include('community_site.urls')),
]
