"""``manage.py plan``: a thin door to ``deployments.planning``; needs no database."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from deployments.planning import PlanError, cases, plan, registry


class Command(BaseCommand):
    """Plan the cases of a file. Exit code 0; 1 for a difference; 2 for a bad file or name."""

    help = "Plan the cases of a file and print their trees as one JSON object."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the flags."""
        parser.add_argument("--case", required=True, metavar="FILE", help="file of cases (JSON)")
        parser.add_argument("--id", help="only this case; prints its tree alone")
        parser.add_argument("--text", action="store_true", help="draw instead of JSON")
        parser.add_argument("--check", action="store_true", help="compare with what is expected")
        parser.add_argument("--labels", action="store_true", help="with --check: labels too")

    def handle(self, *args: Any, **options: Any) -> None:
        """Plan everything first, so that a bad case prints nothing else."""
        try:
            found = cases.read(Path(options["case"]).read_text(encoding="utf-8"))
            if options["id"] is not None:
                if options["id"] not in found:
                    raise cases.CaseError(f"There is no case {options['id']} in {options['case']}.")
                found = {options["id"]: found[options["id"]]}
            custom = registry.custom(settings.DEPLOYMENT_ORCHESTRATORS)
            plans = {name: plan(cases.spec(case), custom) for name, case in found.items()}
            if options["check"]:
                for name, case in found.items():
                    if "expected" not in case:
                        raise cases.CaseError(f"Case {name} has no 'expected' to check.")
        except (cases.CaseError, PlanError, OSError, UnicodeDecodeError) as error:
            self.stderr.write(" ".join(str(error).split()))
            sys.exit(2)
        if options["check"]:
            for name, case in found.items():
                tree = cases.tree(plans[name])
                if line := cases.difference(case["expected"], tree, options["labels"], name):
                    self.stdout.write(line)
                    sys.exit(1)
        elif options["text"]:
            for name, block in plans.items():
                head = [] if options["id"] is not None else [name]
                self.stdout.write("\n".join([*head, *cases.drawing(block), ""]))
        else:
            trees = {name: cases.tree(block) for name, block in plans.items()}
            shown = trees if options["id"] is None else trees[options["id"]]
            self.stdout.write(json.dumps(shown, ensure_ascii=False, indent=2))
