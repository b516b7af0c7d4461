"""Settings, read from environment variables, each with a sound default.

A secret may also be given as a file: `SECRET_KEY_FILE=/run/secrets/key`. A bad value stops the
start with one sentence that names the setting. The list for users is `docs/settings.md`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from environs import EnvError
from kombu import Exchange, Queue

from orchestrator.environment import (
    Env,
    database_of,
    embedded_secret,
    mail_of,
    postgres_pool,
    sqlite_options,
)

env = Env(strip_whitespace=True)
BASE_DIR = Path(__file__).resolve().parent.parent

try:
    VAR_DIR: Path = env.folder("VAR_DIR", BASE_DIR / "var")
    DEBUG: bool = env.bool("DEBUG", False)
    # Embedded: one machine, SQLite, secrets kept in var/. With DATABASE_URL they must be given.
    DATABASE_URL: str = env.str("DATABASE_URL", "")
    EMBEDDED = not DATABASE_URL
    DATABASE = database_of(DATABASE_URL or f"sqlite:///{VAR_DIR / 'orchestrator.sqlite3'}")
    REDIS_URL: str = env.redis("REDIS_URL", "redis://127.0.0.1:6379/0")
    SECRET_KEY: str = env.str("SECRET_KEY", "") or embedded_secret(VAR_DIR, "secret-key", EMBEDDED)
    FIELD_KEYS: list[str] = env.fernet_keys("FIELD_KEYS", "") or env.parse_fernet_keys(
        embedded_secret(VAR_DIR, "field-key", EMBEDDED)
    )
    ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
    DEPLOYMENT_ORCHESTRATORS: list[str] = env.list("DEPLOYMENT_ORCHESTRATORS", [])
    ARTIFACT_DIR: Path = env.path("ARTIFACT_DIR", VAR_DIR / "artifacts")
    ARTIFACT_MAXIMUM_MIB: int = env.positive("ARTIFACT_MAXIMUM_MIB", 2048)
    PUBLIC_URL: str = env.public_url("PUBLIC_URL", "")
    LOG_LEVEL: str = env.log_level_name("LOG_LEVEL", "INFO")
    LOG_FORMAT: str = env.choice("LOG_FORMAT", "json", ("json", "console"))

    # Web
    WEB_THREADS: int = env.positive("WEB_THREADS", 8)
    WEB_MAX_HELD: int = env.positive("WEB_MAX_HELD", 500)
    WEB_MAX_STREAMS: int = env.positive("WEB_MAX_STREAMS", 1000)
    # Origins whose pages may call the compatible API, such as the Parallels console's.
    COMPAT_CORS_ORIGINS: list[str] = env.origins("COMPAT_CORS_ORIGINS", [])
    WEB_MAX_BODY_BYTES: int = env.positive("WEB_MAX_BODY_BYTES", 2_621_440)
    WEB_MAX_UPLOAD_BYTES: int = env.positive("WEB_MAX_UPLOAD_BYTES", 104_857_600)
    # Requests a second; bursts of ten times as many. 0: no limit.
    RATE_LIMIT_TOKEN: int = env.whole("RATE_LIMIT_TOKEN", 200)
    RATE_LIMIT_ADDRESS: int = env.whole("RATE_LIMIT_ADDRESS", 500)
    RATE_LIMIT_STRANGER: int = env.whole("RATE_LIMIT_STRANGER", 20)

    # Signing in
    OIDC_ISSUER: str = env.issuer("OIDC_ISSUER", "")
    OIDC_CLIENT_ID: str = env.str("OIDC_CLIENT_ID", "")
    OIDC_CLIENT_SECRET: str = env.str("OIDC_CLIENT_SECRET", "")
    OIDC_NAME: str = env.str("OIDC_NAME", "single sign-on")
    OIDC_SCOPES: list[str] = env.list("OIDC_SCOPES", ["openid", "profile", "email"])
    OIDC_GROUPS_CLAIM: str = env.str("OIDC_GROUPS_CLAIM", "groups")
    OIDC_ROLES: dict[str, list[str]] = env.names_by_key("OIDC_ROLES", {})
    OIDC_ALLOW_UNKNOWN: bool = env.bool("OIDC_ALLOW_UNKNOWN", False)
    OIDC_LINK_BY_EMAIL: bool = env.bool("OIDC_LINK_BY_EMAIL", False)
    OIDC_SECOND_FACTOR: list[str] = env.list("OIDC_SECOND_FACTOR", [])
    if OIDC_ISSUER and not OIDC_CLIENT_ID:
        raise ImproperlyConfigured("OIDC_CLIENT_ID must be set when OIDC_ISSUER is set.")
    REAUTHENTICATION_SECONDS: int = env.positive("REAUTHENTICATION_SECONDS", 900)
    SIGN_IN_TRIES: int = env.positive("SIGN_IN_TRIES", 5)
    SIGN_IN_WAIT_SECONDS: int = env.positive("SIGN_IN_WAIT_SECONDS", 300)
    LINK_HOURS: int = env.positive("LINK_HOURS", 24)
    EMAIL_URL: str = env.mail("EMAIL_URL", "")
    EMAIL_FROM: str = env.str("EMAIL_FROM", "orchestrator@localhost")
    # How long clients of its synchronous calls are held. Seconds.
    COMPAT_CREATE_SECONDS: float = env.seconds("COMPAT_CREATE_SECONDS", 3600)
    COMPAT_QUEUE_SECONDS: float = env.seconds("COMPAT_QUEUE_SECONDS", 300)
    COMPAT_CALL_SECONDS: float = env.seconds("COMPAT_CALL_SECONDS", 600)

    # Jobs. Seconds.
    JOB_LEASE_SECONDS: float = env.seconds("JOB_LEASE_SECONDS", 30)
    JOB_RETENTION_DAYS: int = env.positive("JOB_RETENTION_DAYS", 90)
    EVENT_RETENTION_DAYS: int = env.positive("EVENT_RETENTION_DAYS", 30)
    AUDIT_RETENTION_DAYS: int = env.whole("AUDIT_RETENTION_DAYS", 0)  # 0: for ever
    TOKEN_WARNING_DAYS: int = env.whole("TOKEN_WARNING_DAYS", 14)  # 0: no warning
    AUDIT_SYSLOG: str = env.syslog("AUDIT_SYSLOG", "")
    WORKER_THREADS: int = env.positive("WORKER_THREADS", 16)
    # For tests of faults only: "kind:step:before|after|settle" kills the worker with SIGKILL at
    # that moment; every bell is rung twice.
    JOBS_DIE_AT: str = env.str("JOBS_DIE_AT", "")
    JOBS_RING_TWICE: bool = env.bool("JOBS_RING_TWICE", False)

    # Webhooks
    WEBHOOK_SECONDS: float = env.seconds("WEBHOOK_SECONDS", 10)
    WEBHOOK_ALLOW_LOOPBACK: bool = env.bool("WEBHOOK_ALLOW_LOOPBACK", False)

    # Hosts. Seconds.
    HOST_POLL_SECONDS: float = env.seconds("HOST_POLL_SECONDS", 10)
    HOST_INVENTORY_SECONDS: float = env.seconds("HOST_INVENTORY_SECONDS", 300)
    HOST_PROBE_SECONDS: float = env.seconds("HOST_PROBE_SECONDS", 3)
    # A dead watcher's hosts are another's after this.
    HOST_WATCH_LEASE_SECONDS: float = env.seconds("HOST_WATCH_LEASE_SECONDS", 10)
    HOST_MAX_CALLS: int = env.positive("HOST_MAX_CALLS", 4)
    HOST_POLL_SHARD: int = env.positive("HOST_POLL_SHARD", 250)
    HOST_POLL_CONCURRENCY: int = env.positive("HOST_POLL_CONCURRENCY", 50)
    # Clocks further apart than this are shown as a failing check.
    HOST_CLOCK_TOLERANCE_SECONDS: float = env.seconds("HOST_CLOCK_TOLERANCE_SECONDS", 60)

    # The catalog. Local storages are below one of these folders.
    CATALOG_FOLDERS: list[Path] = env.folders("CATALOG_FOLDERS", []) or [
        VAR_DIR.resolve() / "catalogs"
    ]
    CATALOG_ENVIRONMENT_KEYS: bool = env.bool("CATALOG_ENVIRONMENT_KEYS", False)
    CATALOG_TICKET_SECONDS: int = env.positive("CATALOG_TICKET_SECONDS", 900)
    # Signed addresses: no revocation ends one, so those of downloads are short.
    CATALOG_ADDRESS_SECONDS: int = env.positive("CATALOG_ADDRESS_SECONDS", 3600)
    CATALOG_UPLOAD_SECONDS: int = env.positive("CATALOG_UPLOAD_SECONDS", 21_600)
    CATALOG_UPLOAD_DAYS: int = env.positive("CATALOG_UPLOAD_DAYS", 7)

    # VMs. Seconds.
    CREATE_CALL_SECONDS: float = env.seconds("CREATE_CALL_SECONDS", 20)
    CLONE_CALL_SECONDS: float = env.seconds("CLONE_CALL_SECONDS", 600)
    CREATE_DOUBT_SECONDS: float = env.seconds("CREATE_DOUBT_SECONDS", 60)
    VM_CREATE_DEADLINE: float = env.seconds("VM_CREATE_DEADLINE", 3600)
    VM_IP_SECONDS: float = env.seconds("VM_IP_SECONDS", 120)
    VM_POLL_SECONDS: float = env.seconds("VM_POLL_SECONDS", 0.5)
    VM_STOP_SECONDS: float = env.seconds("VM_STOP_SECONDS", 60)
    VM_STATE_SECONDS: float = env.seconds("VM_STATE_SECONDS", 300)
    VM_MAXIMUM_EXECUTE_SECONDS: int = env.positive("VM_MAXIMUM_EXECUTE_SECONDS", 3600)
    LEASE_WARNING_SECONDS: float = env.seconds("LEASE_WARNING_SECONDS", 300)
    ACCESS_REQUEST_DAYS: int = env.positive("ACCESS_REQUEST_DAYS", 14)
    LEASE_HOLD_SECONDS: int = env.positive("LEASE_HOLD_SECONDS", 28800)
    LEASE_HOLD_MAXIMUM: int = env.positive("LEASE_HOLD_MAXIMUM", 2)
    # Of VMs that are made from an image which nobody made a template of.
    IMAGE_VM_CPUS: int = env.positive("IMAGE_VM_CPUS", 2)
    IMAGE_VM_MEMORY_MIB: int = env.positive("IMAGE_VM_MEMORY_MIB", 4096)
    IMAGE_VM_DISK_GIB: int = env.positive("IMAGE_VM_DISK_GIB", 64)
    IMAGE_VM_LEASE_SECONDS: int = env.positive("IMAGE_VM_LEASE_SECONDS", 14_400)
    IMAGE_VM_MAXIMUM_LEASE_SECONDS: int = env.positive("IMAGE_VM_MAXIMUM_LEASE_SECONDS", 86_400)
    # Folders of hosts that whoever uses a VM may share with it, and what is below them.
    SHARED_FOLDER_PATHS: list[str] = env.list("SHARED_FOLDER_PATHS", [])
    # Quarantine of hosts that fail to make VMs: when so many of the last attempts failed.
    QUARANTINE_SAMPLE: int = env.positive("QUARANTINE_SAMPLE", 5)
    QUARANTINE_RATE: float = env.share("QUARANTINE_RATE", 0.6)
    QUARANTINE_SECONDS: float = env.seconds("QUARANTINE_SECONDS", 600)
    # Placement: the best score wins; a cached image is worth this much, and so on.
    QUEUE_AGING_SECONDS: float = env.seconds("QUEUE_AGING_SECONDS", 600)
    QUEUE_MARGIN_SECONDS: float = env.seconds("QUEUE_MARGIN_SECONDS", 300)
    QUEUE_MAXIMUM_WAIT_SECONDS: float = env.seconds("QUEUE_MAXIMUM_WAIT_SECONDS", 86_400)
    PLACEMENT_STRATEGY: str = env.choice("PLACEMENT_STRATEGY", "spread", ("spread", "pack"))
    PLACEMENT_WEIGHTS: dict[str, float] = env.weights(
        "PLACEMENT_WEIGHTS", {"cached": 40.0, "balance": 40.0, "latency": 10.0, "failures": 30.0}
    )

    # Deployments: tasks that run at once, and steps of all of them.
    DEPLOYMENT_MAX_TASKS: int = env.positive("DEPLOYMENT_MAX_TASKS", 100)
    DEPLOYMENT_MAX_STEPS: int = env.positive("DEPLOYMENT_MAX_STEPS", 32)
    DEPLOYMENT_LATE_SECONDS: float = env.seconds("DEPLOYMENT_LATE_SECONDS", 3600)
    DEPLOYMENT_STEP_SECONDS: float = env.seconds("DEPLOYMENT_STEP_SECONDS", 21_600)
    DEPLOYMENT_MAINTENANCE: bool = env.bool("DEPLOYMENT_MAINTENANCE", False)  # none may start
    DEPLOYMENT_RETENTION_DAYS: int = env.positive("DEPLOYMENT_RETENTION_DAYS", 365)
except (EnvError, ImproperlyConfigured, ValueError) as error:
    sys.exit(f"orchestrator: bad setting: {error}")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "template_partials",
    "django_htmx",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_structlog",
    "csp",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "orchestrator.db",
    "orchestrator.api",
    "orchestrator.web",
    "events",
    "accounts",
    "jobs",
    "hosts",
    "catalog",
    "vms",
    "deployments",
    "compat",
    "orchestrator.console",
]

MIDDLEWARE = [
    "compat.wire.middleware.CompatMiddleware",  # before all else: it changes the path
    "django.middleware.security.SecurityMiddleware",
    "orchestrator.web.middleware.PoliciesMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "orchestrator.web.middleware.StoreAwayMiddleware",
    "accounts.middleware.ActorMiddleware",
    "accounts.signin.middleware.LastSeenMiddleware",
    "accounts.signin.middleware.AssuranceMiddleware",
]

ROOT_URLCONF = "orchestrator.urls"
WSGI_APPLICATION = "orchestrator.wsgi.application"
ASGI_APPLICATION = "orchestrator.asgi.application"
APPEND_SLASH = False  # a redirect turns a client's POST into a GET; both spellings are routed

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "orchestrator.web.context.page",
            ],
            "builtins": [
                "template_partials.templatetags.partials",
                "orchestrator.web.templatetags.console",
            ],
        },
    }
]

# Database -----------------------------------------------------------------------------------

DATABASES = {"default": DATABASE}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = sqlite_options()
    # A file, so that tests with threads meet the same locks as the product; one for each run.
    DATABASES["default"]["TEST"] = {
        "NAME": Path(tempfile.gettempdir()) / f"orchestrator-test-{os.getpid()}.sqlite3"
    }
else:
    # Django's default pool of 4 connections starves the worker's threads.
    DATABASES["default"]["OPTIONS"] = {
        **DATABASES["default"].get("OPTIONS", {}),
        "pool": postgres_pool(max(WEB_THREADS, WORKER_THREADS)),
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        "BACKEND": "orchestrator.web.cache.FallbackRedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {"socket_connect_timeout": 0.5, "socket_timeout": 1},
    }
}

# Accounts -----------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_LOGOUT_REDIRECT_URL = LOGIN_URL
ACCOUNT_SESSION_REMEMBER = True
MFA_ADAPTER = "accounts.signin.secrets.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes", "webauthn"]
MFA_PASSKEY_LOGIN_ENABLED = True
ACCOUNT_RATE_LIMITS = {
    "login": "30/m/ip",
    "login_failed": f"{2 * SIGN_IN_TRIES}/m/ip,{SIGN_IN_TRIES}/{SIGN_IN_WAIT_SECONDS}s/key",
}
ACCOUNT_REAUTHENTICATION_TIMEOUT = REAUTHENTICATION_SECONDS
SOCIALACCOUNT_ADAPTER = "accounts.sso.adapter.SocialAdapter"
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_REQUESTS_TIMEOUT = 5
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {
        "APPS": [
            {
                "provider_id": "sso",
                "name": OIDC_NAME,
                "client_id": OIDC_CLIENT_ID,
                "secret": OIDC_CLIENT_SECRET,
                "settings": {
                    "server_url": OIDC_ISSUER.rstrip("/"),
                    "oauth_pkce_enabled": True,
                    "scope": OIDC_SCOPES,
                },
            }
        ]
        if OIDC_ISSUER
        else []
    }
}
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_EMAIL_SUBJECT_PREFIX = "Orchestrator: "
ACCOUNT_FORMS = {"reset_password": "accounts.signin.forms.ForgottenForm"}
PASSWORD_RESET_TIMEOUT = LINK_HOURS * 3600
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = EMAIL_FROM
globals().update(mail_of(EMAIL_URL))

# Security -----------------------------------------------------------------------------------

BEHIND_TLS = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
if BEHIND_TLS:  # browsers take cookies of these names from this host alone, not from its siblings
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
SECURE_HSTS_SECONDS = 31_536_000 if BEHIND_TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = BEHIND_TLS
# The proxy in front ends TLS; a redirect from here could loop.
SECURE_SSL_REDIRECT = False
SILENCED_SYSTEM_CHECKS = ["security.W008"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True  # pages carry the CSRF token themselves
CSRF_FAILURE_VIEW = "orchestrator.web.errors.csrf_failure"
DATA_UPLOAD_MAX_MEMORY_SIZE = WEB_MAX_BODY_BYTES  # uploads of files are counted by the front
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}

# Static files, language, time ---------------------------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)  # WhiteNoise warns at each start where it is missing
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # no collectstatic on a single machine
WHITENOISE_AUTOREFRESH = DEBUG
LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

# API ----------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.api.TokenAuthentication",
        "accounts.api.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "orchestrator.api.pagination.NewestFirst",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "orchestrator.api.schema.AutoSchema",
    "EXCEPTION_HANDLER": "orchestrator.api.errors.handle",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "orchestrator.api.negotiation.AlwaysJson",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Orchestrator",
    "DESCRIPTION": "One pane of glass over a pool of virtualisation hosts.",
    "VERSION": "2",
    "OAS_VERSION": "3.1.1",
    "SCHEMA_PATH_PREFIX": "/api/v2",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "ENUM_NAME_OVERRIDES": {
        "AccountKind": "accounts.models.User.Kind",
        "AuditOutcome": "accounts.models.AuditEvent.Outcome",
        "EnrolmentTokenState": "hosts.models.EnrolmentToken.STATES",
        "HoldKind": "hosts.models.HostHold.Kind",
        "JobState": "jobs.models.Job.State",
        "VMState": "vms.states.State",
        "TaskState": "deployments.states.TaskState",
        "TaskKind": "deployments.models.tasks.Task.Kind",
        "EnvironmentLevel": "deployments.models.access.EnvironmentAccess.Level",
        "GrantLevel": "vms.models.Grant.Level",
        "BlockState": "deployments.states.BlockState",
        "BlockKind": "deployments.models.tasks.Block.Kind",
        "StepState": "deployments.states.StepState",
        "RunningVMs": "accounts.revocation.CHOICES",
        "CachedCopies": "accounts.revocation.COPY_CHOICES",
        "PermissionCode": "accounts.permissions.CODES",
    },
}

# Celery -------------------------------------------------------------------------------------
# Messages are bells, not state: everything here may be lost, doubled or late.

CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://")
# A request that rings may wait half a second for a silent broker, and not try again: without
# `max_retries` kombu tries for six seconds, even when its caller asked for no retry.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 0.5,
    "socket_timeout": 0.5,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "max_retries": 0,
    # No second copy of each message in Redis until it is acknowledged: a lost bell is rung again
    # by the sweeper after seconds, and not after a visibility time-out.
    "ack_emulation": False,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "steps"
WORK_QUEUES = ["steps", "calls"]  # as `jobs.models.Job.Queue`; /readyz wants a worker at each
# Declared, so that a worker without -Q serves them all.
CELERY_TASK_QUEUES = [Queue(name, Exchange(name), routing_key=name) for name in WORK_QUEUES]
CELERY_DB_REUSE_MAX = 100
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    name: {"task": task, "schedule": seconds, "options": {"expires": seconds}}
    for name, task, seconds in [
        ("seal-events", "events.tasks.seal", 1.0),
        ("seal-audit", "accounts.tasks.seal", 1.0),
        ("check-audit", "accounts.tasks.check_audit", 60.0),
        ("send-audit", "accounts.tasks.send_audit", 2.0),
        ("warn-of-expiring-tokens", "accounts.tasks.warn_of_expiry", 60.0),
        ("deliver-webhooks", "accounts.tasks.deliver_webhooks", 2.0),
        ("poll-hosts", "hosts.tasks.poll_tick", 1.0),
        ("sweep-jobs", "jobs.tasks.sweep", 1.0),
        ("place-vms", "vms.tasks.place", 2.0),
        ("keep-pools", "vms.tasks.keep_pools", 2.0),
        ("watch-leases", "vms.tasks.watch_leases", 1.0),
        ("turn-holds", "hosts.tasks.turn_holds", 2.0),
        ("watch-drains", "vms.tasks.watch_drains", 2.0),
        ("end-expired-access", "vms.tasks.end_expired_access", 5.0),
        ("start-scheduled-tasks", "deployments.tasks.start_scheduled", 1.0),
        ("retain", "orchestrator.console.tasks.retain", 3600.0),
    ]
}
DJANGO_STRUCTLOG_CELERY_ENABLED = True

from orchestrator.logs import logging_config  # noqa: E402 - needs the values above

LOGGING = logging_config(LOG_LEVEL, LOG_FORMAT)
