from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.views import serve as static
from django.urls import include, path
from django.views.static import serve

import spirit.urls

urlpatterns = [
    path('', include(spirit.urls)),
    path('admin/', admin.site.urls),
    path('account/', include('user_sessions.urls', 'user_sessions')),
    # As a small site without another server serves its files.
    path('static/<path:path>', static, {'insecure': True}),
    path('media/<path:path>', serve, {'document_root': settings.MEDIA_ROOT}),
]
