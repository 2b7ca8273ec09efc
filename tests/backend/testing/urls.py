from django.urls import path

from testing import views

urlpatterns = [
    path('oracle/stats/<str:community_id>', views.stats),
    path('oracle/visits/<str:community_id>', views.visits),
    path('oracle/visitors/<str:community_id>', views.visitors),
    path('oracle/online', views.online),
    path('oracle/events', views.events),
    path('oracle/sessions', views.sessions),
    path('oracle/profiles', views.profiles),
    path('oracle/communities', views.communities),
    path('seed', views.seed),
    path('reset', views.reset),
    path('add-session', views.add_session),
    path('expire-session', views.expire_session),
    path('end-session', views.end_session),
    path('delete-user', views.delete_user),
    path('add-event', views.add_event),
    path('write-in-descending-order', views.write_in_descending_order),
]
