"""Every address of the product."""

from __future__ import annotations

from allauth.account import views as account
from allauth.mfa.base import views as mfa
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as webauthn
from django.urls import include, path, re_path

import accounts.api.urls
import catalog.api
import deployments.api.urls
import deployments.running.api
import events.api
import hosts.api
import jobs.api
import orchestrator.api.urls
import vms.api.urls
from accounts.signin import views as signin
from accounts.sso import views as sso
from orchestrator.api.pages import DocsPage
from orchestrator.web import errors, health

# The pages of allauth that exist here, under its own names. There is no sign-up and no mail address
# to manage: administrators make and invite accounts. A stranger gets no further than signing in or
# setting a new password; all else redirects to it.
allauth_urls = [
    path("login/", account.login, name="account_login"),
    path("logout/", account.logout, name="account_logout"),
    path("inactive/", account.account_inactive, name="account_inactive"),
    path("reauthenticate/", account.reauthenticate, name="account_reauthenticate"),
    path("password/change/", account.password_change, name="account_change_password"),
    # Its own name would make allauth's form show a link to it, whether there is mail or not.
    path("password/forgotten/", signin.forgotten, name="account_forgotten"),
    path("password/sent/", account.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^password/reset/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>[^/]+)/$",
        account.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path(
        "password/reset/done/",
        account.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
    path("2fa/", mfa.index, name="mfa_index"),
    path("2fa/authenticate/", mfa.authenticate, name="mfa_authenticate"),
    path("2fa/reauthenticate/", mfa.reauthenticate, name="mfa_reauthenticate"),
    path("2fa/totp/activate/", totp.activate_totp, name="mfa_activate_totp"),
    path("2fa/totp/deactivate/", totp.deactivate_totp, name="mfa_deactivate_totp"),
    path(
        "2fa/recovery-codes/",
        recovery_codes.view_recovery_codes,
        name="mfa_view_recovery_codes",
    ),
    path(
        "2fa/recovery-codes/generate/",
        recovery_codes.generate_recovery_codes,
        name="mfa_generate_recovery_codes",
    ),
    path(
        "2fa/recovery-codes/download/",
        recovery_codes.download_recovery_codes,
        name="mfa_download_recovery_codes",
    ),
    path("2fa/webauthn/", webauthn.list_webauthn, name="mfa_list_webauthn"),
    path("2fa/webauthn/add/", webauthn.add_webauthn, name="mfa_add_webauthn"),
    path("2fa/webauthn/login/", webauthn.login_webauthn, name="mfa_login_webauthn"),
    path(
        "2fa/webauthn/reauthenticate/",
        webauthn.reauthenticate_webauthn,
        name="mfa_reauthenticate_webauthn",
    ),
    path(
        "2fa/webauthn/keys/<int:pk>/remove/", webauthn.remove_webauthn, name="mfa_remove_webauthn"
    ),
    path("2fa/webauthn/keys/<int:pk>/edit/", webauthn.edit_webauthn, name="mfa_edit_webauthn"),
    path("sso/login/", sso.login, name="sso_login"),
    path("sso/callback/", sso.callback, name="sso_callback"),
]

# The rooms' endpoints under one namespace, `api:`; the last list answers for what is none.
api_urls = [
    *accounts.api.urls.urlpatterns,
    *events.api.urlpatterns,
    *jobs.api.urlpatterns,
    *hosts.api.urlpatterns,
    *catalog.api.urlpatterns,
    *vms.api.urls.urlpatterns,
    *deployments.api.urls.urlpatterns,
    *deployments.running.api.urlpatterns,
    *orchestrator.api.urls.urlpatterns,
]

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("accounts/", include(allauth_urls)),
    path("api/v2/", include((api_urls, "api"))),
    path("api/docs/", DocsPage.as_view(), name="api-docs"),
    path("api/v1", include("compat.urls")),
    path("", include("accounts.urls")),
    path("", include("jobs.urls")),
    path("", include("hosts.urls")),
    path("", include("vms.urls")),
    path("", include("deployments.urls")),
    path("", include("catalog.urls")),
    path("", include("deployments.running.urls")),
    path("", include("orchestrator.console.urls")),
]

handler400 = errors.bad_request
handler403 = errors.permission_denied
handler429 = errors.too_many_requests  # allauth asks for it
handler404 = errors.not_found
handler500 = errors.server_error
