from django.urls import path, re_path, register_converter

from accounts import jwt_views
from communities import api, views
from community_site.variant import PK, AnyUuid

register_converter(AnyUuid, 'any_uuid')

urlpatterns = [
    path('', views.home),
    path('about/', views.about),
    path(f'communities/<{PK}:pk>/', views.community),
    path(f'communities/<{PK}:pk>/posts/<int:post>/', views.post),
    path(f'communities/<{PK}:pk>/search/', views.search),
    path(f'communities/<{PK}:pk>/counts/', views.counts),
    path('c/<slug:slug>/', views.community_by_slug),
    path(f'private/<{PK}:pk>/', views.members_only),
    path(f'club/<{PK}:pk>/', views.club),
    path(f'club/<{PK}:pk>/drafts/<int:author>/', views.draft),
    path(f'with-iframe/<{PK}:pk>/', views.with_iframe),

    path(f'api/feed/<{PK}:pk>/', jwt_views.feed),
    path('api/communities/', api.communities),
    path(f'api/communities/<{PK}:pk>/', api.community),
    path(f'api/communities/<{PK}:pk>/posts/', api.posts),
    re_path(r'^api/communities/[^/]+/visitors(?:/.*)?$', api.answered_by_backend),
    re_path(r'^api/visits/?$', api.answered_by_backend),
    re_path(r'^api/visitors(?:/.*)?$', api.answered_by_backend),
]
