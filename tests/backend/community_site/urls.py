from django.conf import settings
from django.urls import include, path

urlpatterns = [
    path('', include('accounts.urls')),
    path('', include('communities.urls')),
    path('', include('fidelity.urls')),
]

if settings.TEST_ENDPOINTS:
    urlpatterns.append(path('__test__/', include('testing.urls')))
