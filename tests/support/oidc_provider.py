"""A provider of OpenID Connect as a process of its own, made with Authlib.

`python -m tests.support.oidc_provider PORT`. Whoever comes to `/authorize` is signed in as the
person that `POST /control` named, so that a test need not click; `fault` there makes it lie.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.support.product import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT_ID, CLIENT_SECRET = "orchestrator", "a-client-secret"
ROOT = Path(__file__).resolve().parents[2]


def make_app(url: str) -> Any:
    """Return the provider's WSGI application; `url` is its issuer."""
    from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector
    from authlib.jose import JsonWebKey
    from authlib.oauth2.rfc6749 import grants
    from authlib.oauth2.rfc6749.models import AuthorizationCodeMixin, ClientMixin
    from authlib.oauth2.rfc6750 import BearerTokenValidator
    from authlib.oauth2.rfc7636 import CodeChallenge
    from authlib.oidc.core import UserInfo
    from authlib.oidc.core.grants import OpenIDCode
    from flask import Flask, jsonify, redirect, request

    keys = {
        kid: JsonWebKey.generate_key("RSA", 2048, {"kid": kid, "use": "sig"}, is_private=True)
        for kid in ("key-1", "stranger")
    }
    told: dict[str, Any] = {"claims": {"sub": "nobody"}, "fault": "", "asked": {}}
    codes: dict[str, Any] = {}
    tokens: dict[str, Any] = {}

    class Client(ClientMixin):
        client_id = CLIENT_ID

        def get_client_id(self) -> str:
            return CLIENT_ID

        def get_default_redirect_uri(self) -> str:
            return ""

        def get_allowed_scope(self, scope: str) -> str:
            return scope

        def check_redirect_uri(self, redirect_uri: str) -> bool:
            return redirect_uri.endswith("/accounts/sso/callback/")

        def check_client_secret(self, client_secret: str) -> bool:
            return client_secret == CLIENT_SECRET

        def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
            return method in ("client_secret_post", "client_secret_basic")

        def check_response_type(self, response_type: str) -> bool:
            return response_type == "code"

        def check_grant_type(self, grant_type: str) -> bool:
            return grant_type == "authorization_code"

    class Code(AuthorizationCodeMixin):
        def __init__(self, code: str, asked: Any) -> None:
            self.code, self.user = code, dict(told["claims"])
            self.redirect_uri, self.scope = asked.redirect_uri, asked.scope
            data = asked.data
            self.nonce = data.get("nonce")
            self.code_challenge = data.get("code_challenge")
            self.code_challenge_method = data.get("code_challenge_method")
            self.auth_time = int(time.time())

        def get_redirect_uri(self) -> str:
            return self.redirect_uri

        def get_scope(self) -> str:
            return self.scope

        def get_nonce(self) -> str:
            return "another" if told["fault"] == "nonce" else self.nonce

        def get_auth_time(self) -> int:
            return self.auth_time - int(told.get("auth_age", 0))

        def get_acr(self) -> Any:
            return self.user.get("acr")

        def get_amr(self) -> Any:
            return self.user.get("amr")

    class CodeGrant(grants.AuthorizationCodeGrant):
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post", "client_secret_basic")

        def save_authorization_code(self, code: str, request: Any) -> None:
            codes[code] = Code(code, request.payload if hasattr(request, "payload") else request)

        def query_authorization_code(self, code: str, client: Any) -> Any:
            return codes.get(code)

        def delete_authorization_code(self, authorization_code: Any) -> None:
            codes.pop(authorization_code.code)

        def authenticate_user(self, authorization_code: Any) -> Any:
            return authorization_code.user

    class IdToken(OpenIDCode):
        def exists_nonce(self, nonce: str, request: Any) -> bool:
            return False

        def get_jwt_config(self, grant: Any = None, *_: Any) -> dict[str, Any]:
            fault = told["fault"]
            key = keys["stranger" if fault == "signature" else "key-1"].as_dict(is_private=True)
            return {
                "key": key | {"kid": "key-1"},
                "alg": "RS256",
                "iss": "https://elsewhere.example" if fault == "issuer" else url,
                "exp": -4000 if fault == "expired" else 3600,
            }

        def generate_user_info(self, user: Any, scope: str) -> UserInfo:
            return UserInfo({k: v for k, v in user.items() if k not in ("acr", "amr")})

        def get_audiences(self, request: Any) -> list[str]:
            return ["somebody-else"] if told["fault"] == "audience" else [CLIENT_ID]

    class Validator(BearerTokenValidator):
        def authenticate_token(self, token_string: str) -> Any:
            return tokens.get(token_string)

        def validate_token(self, token: Any, scopes: Any, request: Any, **_: Any) -> None:
            if token is None:
                raise PermissionError

    def save_token(token: dict[str, Any], request: Any) -> None:
        tokens[token["access_token"]] = {"user": request.user}

    app = Flask(__name__)
    server = AuthorizationServer(
        app, query_client=lambda cid: Client() if cid == CLIENT_ID else None, save_token=save_token
    )
    server.register_grant(CodeGrant, [IdToken(require_nonce=True), CodeChallenge(required=True)])
    protect = ResourceProtector()
    protect.register_token_validator(Validator())

    @app.get("/.well-known/openid-configuration")
    def discovery() -> Any:
        if told["fault"] == "down":
            return "down", 503
        return jsonify(
            issuer="https://elsewhere.example" if told["fault"] == "discovery" else url,
            authorization_endpoint=f"{url}/authorize",
            token_endpoint=f"{url}/token",
            userinfo_endpoint=f"{url}/userinfo",
            jwks_uri=f"{url}/jwks",
            token_endpoint_auth_methods_supported=["client_secret_basic", "client_secret_post"],
        )

    @app.get("/authorize")
    def authorize() -> Any:
        told["asked"] = request.args.to_dict()
        if told["fault"] == "denied":
            back = f"{request.args['redirect_uri']}?error=access_denied"
            return redirect(f"{back}&state={request.args['state']}")
        grant = server.get_consent_grant(end_user=told["claims"])
        return server.create_authorization_response(grant_user=told["claims"], grant=grant)

    @app.post("/token")
    def token() -> Any:
        return server.create_token_response()

    @app.get("/userinfo")
    @protect()
    def userinfo() -> Any:
        from authlib.integrations.flask_oauth2 import current_token

        claims = dict(current_token["user"])
        if told["fault"] == "userinfo":
            claims["sub"] = "somebody-else"
        return jsonify(claims)

    @app.get("/jwks")
    def jwks() -> Any:
        return jsonify(keys=[keys["key-1"].as_dict(is_private=False, alg="RS256")])

    @app.route("/control", methods=["GET", "POST"])
    def control() -> Any:
        if request.method == "POST":
            told.update({"fault": "", "auth_age": 0} | request.get_json())
        return jsonify(told)

    return app


@dataclass
class Provider:
    """The running provider."""

    url: str

    def is_about(self, sub: str, fault: str = "", auth_age: int = 0, **claims: Any) -> None:
        """Say who signs in next, and how the provider lies (`fault`)."""
        told = {"claims": {"sub": sub, **claims}, "fault": fault, "auth_age": auth_age}
        httpx.post(f"{self.url}/control", json=told).raise_for_status()

    def asked(self) -> dict[str, str]:
        """Return what the last request for a sign-in asked."""
        asked: dict[str, str] = httpx.get(f"{self.url}/control").json()["asked"]
        return asked


@contextmanager
def running_provider() -> Iterator[Provider]:
    """Run a provider on loopback."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", __name__, str(port)], cwd=ROOT)
    try:
        until(lambda: _answers(url), 30, "the provider answers")
        yield Provider(url)
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/jwks").is_success
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    import os

    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # on loopback there is no TLS
    from werkzeug.serving import run_simple

    number = int(sys.argv[1])
    run_simple("127.0.0.1", number, make_app(f"http://127.0.0.1:{number}"), threaded=True)
