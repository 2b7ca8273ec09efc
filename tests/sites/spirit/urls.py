from django.contrib import admin
from django.urls import include, path

import spirit.urls

urlpatterns = [
    path('', include(spirit.urls)),
    path('admin/', admin.site.urls),
    path('account/', include('user_sessions.urls', 'user_sessions')),
]
