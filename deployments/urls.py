from __future__ import annotations

from django.urls import path

from deployments.views import access, environments, packages, policies, wizard

app_name = "deployments"
urlpatterns = [
    path("deployments/new/", wizard.wizard, name="new"),
    path("packages/", packages.package_list, name="packages"),
    path("packages/import/", packages.import_package, name="import"),
    path("packages/<uuid:id>/", packages.package_page, name="package"),
    path("packages/<uuid:id>/new-version/", packages.new_version, name="new-version"),
    path("packages/<uuid:id>/export/", packages.export, name="export-package"),
    path("packages/<uuid:id>/delete/", packages.delete, name="delete-package"),
    path("environments/", environments.environment_list, name="environments"),
    path("environments/new/", environments.new_environment, name="new-environment"),
    path("environments/<uuid:id>/", environments.environment_page, name="environment"),
    path("environments/<uuid:id>/edit/", environments.edit_environment, name="edit-environment"),
    path(
        "environments/<uuid:id>/delete/", environments.delete_environment, name="delete-environment"
    ),
    path("environments/<uuid:id>/members/new/", environments.add_member, name="add-member"),
    path(
        "environments/<uuid:id>/members/<uuid:member>/remove/",
        environments.remove_member,
        name="remove-member",
    ),
    path("environments/<uuid:id>/policy/", policies.environment_policy, name="policy"),
    path("environments/<uuid:id>/balancers/set/", policies.set_balancer, name="set-balancer"),
    path(
        "environments/<uuid:id>/balancers/remove/", policies.remove_balancer, name="remove-balancer"
    ),
    path("environments/<uuid:id>/restrict/", access.restrict, name="restrict"),
    path("environments/<uuid:id>/open/", access.lift, name="open"),
    path("environments/<uuid:id>/access/new/", access.give, name="give-access"),
    path("environments/<uuid:id>/access/<uuid:line>/revoke/", access.revoke, name="revoke-access"),
    path("dictionaries/", environments.dictionary_list, name="dictionaries"),
    path("dictionaries/new/", environments.new_dictionary, name="new-dictionary"),
    path("dictionaries/<uuid:id>/", environments.dictionary_page, name="dictionary"),
    path("dictionaries/<uuid:id>/edit/", environments.edit_dictionary, name="edit-dictionary"),
    path(
        "dictionaries/<uuid:id>/delete/", environments.delete_dictionary, name="delete-dictionary"
    ),
    path("dictionaries/<uuid:id>/set/", environments.set_entry, name="set-entry"),
    path("dictionaries/<uuid:id>/remove/", environments.remove_entry, name="remove-entry"),
]
