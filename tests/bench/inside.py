"""`python -m tests.bench.inside module:function JSON`: call a function with Django set up."""

from __future__ import annotations

import importlib
import json
import os
import sys


def main(function: str, arguments: str) -> None:
    """Call it with the keyword arguments and write its result as the last line of output."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "orchestrator.settings"
    os.environ["LOG_LEVEL"] = "WARNING"

    import django

    django.setup()
    import orchestrator.celery  # noqa: F401 - bells ring through the product's own application

    module, _, name = function.partition(":")
    called = getattr(importlib.import_module(f"tests.bench.{module}"), name)
    result = called(**json.loads(arguments))
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
