"""Django: a middleware names the visitor once for each request, and views search as they did before.

gunicorn --workers 2 django_app:application
"""

from __future__ import annotations

import os
from collections.abc import Callable

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from rewriter import Rewriter, Subject

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[f"{__name__}.visitor"],
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "an example has none"),
)
rewriter = Rewriter.from_settings("rewriter.toml")
client = rewriter.wrap()  # where the project makes its OpenSearch client


def visitor(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Return the middleware: whatever a view searches for is searched for the request's visitor."""

    def middleware(request: HttpRequest) -> HttpResponse:
        cookies = request.COOKIES
        subject = Subject(
            user_id=cookies.get("user"), session_id=cookies.get("session"), consent=cookies.get("consent") == "yes"
        )
        with rewriter.subject(subject):
            return get_response(request)

    return middleware


def search(request: HttpRequest) -> HttpResponse:
    """Return one page of films; the view knows nothing of the rewriter."""
    body = {"query": {"match": {"title": request.GET.get("q", "")}}, "size": 7}
    hits = client.search(index="films", body=body)["hits"]["hits"]
    return JsonResponse({"hits": [hit["_source"] | {"id": hit["_id"]} for hit in hits], "worker": os.getpid()})


urlpatterns = [path("search", search)]
application = get_wsgi_application()
