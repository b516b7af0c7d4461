"""Health, login, hardware, licence and cache of a host (contract 2.1, 2.7, 4.5)."""

from __future__ import annotations

from hosts.simulator import auth, cached, render
from hosts.simulator.api.routing import route
from hosts.simulator.wire import Answer, RefusedError, Request, UnauthorizedError, rfc3339
from hosts.simulator.world import HOME


@route("GET", "", "root", public=True)
async def root(request: Request) -> Answer:
    """Say who answers."""
    now = rfc3339(request.host.now())
    return Answer(200, {"id": request.host.uuid, "timestamp": now, "message": "simulated host"})


@route("GET", "health/probe", "probe", public=True)
async def probe(request: Request) -> Answer:
    """Say that the host is there."""
    return Answer(200, {"status": "OK"})


@route("GET", "health/system", "system", public=True)
async def system(request: Request) -> Answer:
    """Say that all services are well; this is 200 always."""
    names = ("parallels_desktop", "database")
    services = [{"name": name, "healthy": True} for name in names]
    body = {"healthy": True, "message": "All services are healthy", "services": services}
    return Answer(200, body)


@route("POST", "auth/token", "login", public=True)
async def login(request: Request) -> Answer:
    """Exchange a password or an API key for a token; a wrong login is 404 (contract 2.1)."""
    operation = "/auth/token"
    fields = await request.fields()
    if key := fields.text("api_key"):
        if not auth.key_is_valid(key):
            raise UnauthorizedError("Api Key is not valid")
        return Answer(200, auth.issue_token(request.host))
    name = fields.text("email") or fields.text("username")
    password = fields.text("password")
    if not name or not password:
        raise RefusedError(400, "Email or password cannot be empty", diagnostics=operation)
    if name.lower() not in (auth.EMAIL, auth.USERNAME) or password != auth.PASSWORD:
        raise RefusedError(404, "Invalid user or Password", diagnostics=operation)
    return Answer(200, auth.issue_token(request.host))


@route("POST", "auth/token/validate", "validate", public=True)
async def validate(request: Request) -> Answer:
    """Tell whether a token is still good."""
    token = (await request.fields()).needed("token", "Token")
    if not auth.token_is_valid(request.host, token):
        raise UnauthorizedError("token is expired or invalid")
    return Answer(200, {"valid": True})


@route("GET", "config/hardware", "hardware")
async def hardware(request: Request) -> Answer:
    """Return what the host has, uses and holds back."""
    return Answer(200, render.hardware(request.host))


@route("GET", "config/parallels-desktop/license", "license", public=True)
async def license_(request: Request) -> Answer:
    """Return the licence with the machine's identity."""
    return Answer(200, render.license_record(request.host))


@route("POST", "config/diskspace", "diskspace", public=True)
async def diskspace(request: Request) -> Answer:
    """Return sizes of folders in MB."""
    host = request.host
    fields = await request.fields(required=False)
    body: dict[str, object] = {
        "cache_folder_size": sum(item.size_mib for item in host.cache.values()),
        "parallels_home_size": int(host.written_gib() * 1024),
        "prl_home_path": HOME,
    }
    given = host.folder_gib(fields.text("folder_path").rstrip("/"))
    if given is not None:  # a folder that is not there is left out, as Go does with what is unset
        body["given_path_size"] = int(given * 1024)
    return Answer(200, body)


@route("GET", "cache", "cache_list")
@route("GET", "catalog/cache", "cache_list")
async def cache_list(request: Request) -> Answer:
    """List the cached images."""
    return Answer(200, cached.cache_list(request.host))


@route("DELETE", "cache", "cache_delete")
@route("DELETE", "catalog/cache", "cache_delete")
async def cache_clear(request: Request) -> Answer:
    """Forget every cached image."""
    cached.forget(request.host, list(request.host.cache))
    return Answer(202)


@route("DELETE", "cache/*", "cache_delete")
@route("DELETE", "cache/*/*", "cache_delete")
@route("DELETE", "catalog/cache/*", "cache_delete")
@route("DELETE", "catalog/cache/*/*", "cache_delete")
async def cache_delete(request: Request) -> Answer:
    """Forget one image, in one version or in all."""
    cache = request.host.cache
    catalog_id, *version = request.args
    hit = [
        key
        for key in cache
        if key[0] == catalog_id.upper() and (not version or key[1] == version[0])
    ]
    if not hit:
        raise RefusedError(404, f"cache item {catalog_id} not found", diagnostics="/cache")
    cached.forget(request.host, hit)
    return Answer(202)
