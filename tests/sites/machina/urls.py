from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.views import serve as static
from django.urls import include, path
from django.views.static import serve

from machina import urls as machina_urls

urlpatterns = [
    path('admin/', admin.site.urls),
    path('accounts/', include('django.contrib.auth.urls')),
    path('forum/', include(machina_urls)),
    # As a small site without another server serves its files.
    path('static/<path:path>', static, {'insecure': True}),
    path('media/<path:path>', serve, {'document_root': settings.MEDIA_ROOT}),
]
