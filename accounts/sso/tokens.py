"""The ID token: who signed it, for whom, when, and in answer to which question."""

from __future__ import annotations

from typing import Any

import jwt

from accounts.sso.errors import SsoError

# What is signed with a key of the provider; never what our own client secret could sign.
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
LEEWAY_SECONDS = 60
REQUIRED = ["iss", "sub", "aud", "exp", "iat", "nonce"]


def verified(
    token: str, *, keys: dict[str, Any], issuer: str, client_id: str, nonce: str
) -> dict[str, Any]:
    """Return the claims of an ID token whose signature and every promise was checked.

    allauth leaves the signature of a token that it fetched itself to TLS, and knows no nonce. A
    provider behind plain HTTP in a private network has no TLS. Raises `SsoError`.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            _key_of(token, keys),
            algorithms=list(ALGORITHMS),
            issuer=issuer,
            audience=client_id,
            leeway=LEEWAY_SECONDS,
            options={"require": REQUIRED},
        )
    except jwt.InvalidIssuerError:
        raise SsoError("issuer", "It names another issuer than OIDC_ISSUER.") from None
    except jwt.InvalidAudienceError:
        raise SsoError("audience", "It was made for another client than OIDC_CLIENT_ID.") from None
    except jwt.ExpiredSignatureError:
        raise SsoError("expired", "It is too old. Compare the clocks of both machines.") from None
    except jwt.InvalidSignatureError:
        raise SsoError("signature", "It is not signed by a key of the provider.") from None
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        raise SsoError("token", f"It cannot be read ({type(error).__name__}).") from None
    if claims["nonce"] != nonce:
        raise SsoError("nonce", "It answers another sign-in than this one.")
    if claims.get("azp", client_id) != client_id:
        raise SsoError("audience", "It was made for another client than OIDC_CLIENT_ID.")
    return claims


def _key_of(token: str, keys: dict[str, Any]) -> jwt.PyJWK:
    """Return the provider's key that the token names, or the only one when it names none."""
    header = jwt.get_unverified_header(token)
    usable = [key for key in jwt.PyJWKSet.from_dict(keys).keys if key.public_key_use != "enc"]
    if (wanted := header.get("kid")) is not None:
        usable = [key for key in usable if key.key_id == wanted]
    if len(usable) != 1:
        raise SsoError("signature", "It is not signed by a key of the provider.")
    return usable[0]
