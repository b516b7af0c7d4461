"""The schema, the page that shows it, and the answer for paths that do not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.mixins import LoginRequiredMixin
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from rest_framework.views import APIView

from orchestrator.refusals import NotFound

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.response import Response


class SchemaView(SpectacularJSONAPIView):
    """GET: the OpenAPI document."""


class DocsPage(LoginRequiredMixin, SpectacularSwaggerSplitView):
    """The interactive documentation, at `/api/docs/`.

    The split view keeps scripts out of the page, and the template has no inline style, so it works
    under the strict Content-Security-Policy.
    """

    url_name = "api:openapi"
    template_name = "api/docs.html"


@extend_schema(exclude=True)
class AnythingElse(APIView):
    """What is no route answers with a problem too, not with a page."""

    schema = None
    metadata_class = None

    def _absent(self, request: Request, **kwargs: Any) -> Response:
        raise NotFound("There is no such address. The documentation is at /api/docs/.")

    get = post = put = patch = delete = _absent
