"""Routes below `/api/v2/`."""

from __future__ import annotations

from deployments.api import access, environments, packages, previews
from orchestrator.api.routing import route

urlpatterns = [
    route("applications/", packages.ApplicationList, "applications"),
    route("applications/<uuid:id>/", packages.ApplicationItem, "application"),
    route("artifacts/", packages.ArtifactList, "artifacts"),
    route("packages/", packages.PackageList, "packages"),
    route("packages/import/", packages.PackageImport, "packages-import"),
    route("packages/<uuid:id>/", packages.PackageItem, "package"),
    route("packages/<uuid:id>/export/", packages.PackageExport, "package-export"),
    route("environments/", environments.EnvironmentList, "environments"),
    route("environments/<uuid:id>/", environments.EnvironmentItem, "environment"),
    route(
        "environments/<uuid:id>/deployed/", environments.EnvironmentDeployed, "environment-deployed"
    ),
    route("environments/<uuid:id>/restrict/", access.EnvironmentRestrict, "environment-restrict"),
    route("environments/<uuid:id>/open/", access.EnvironmentOpen, "environment-open"),
    route("environments/<uuid:id>/access/", access.AccessList, "environment-access"),
    route(
        "environments/<uuid:id>/access/<uuid:line>/", access.AccessItem, "environment-access-item"
    ),
    route(
        "environments/<uuid:id>/access/<uuid:line>/impact/",
        access.AccessImpact,
        "environment-access-impact",
    ),
    route("users/<uuid:id>/environments/", access.UserEnvironments, "user-environments"),
    route("dictionaries/", environments.DictionaryList, "dictionaries"),
    route("dictionaries/<uuid:id>/", environments.DictionaryItem, "dictionary"),
    route("deployments/preview/", previews.Preview, "deployment-preview"),
]
