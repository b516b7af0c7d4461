"""Pages of what an environment says about every run on it: its policy and load balancers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.urls import reverse
from django.views.decorators.http import require_POST

from deployments import balancers, environments
from deployments.forms import BalancerForm
from deployments.models import Environment
from deployments.policy_forms import EnvironmentPolicyForm
from deployments.views.environments import changeable, page_of
from orchestrator.web import pages
from vms.views.templates import form_view

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest


@form_view
@pages.page
def environment_policy(request: PageRequest, id: UUID) -> HttpResponse:
    """Change the policy of an environment."""
    environment = changeable(request, id)
    form = EnvironmentPolicyForm(pages.posted(request), policy=environment.policy)
    done = pages.accepted(
        form,
        lambda _: environments.update_environment(request.actor, environment, policy=form.policy()),
    )
    if done:
        return pages.done(request, page_of(environment), "The policy was changed.")
    context = {
        "form": form,
        "title": f"Policy of {environment}",
        "text": "It counts for tasks that are planned from now on. What a package’s version says "
        "counts more; approvals of both are asked for.",
        "verb": "Change",
        "back": page_of(environment),
        "ups": [
            (reverse("deployments:environments"), "Environments"),
            (page_of(environment), environment),
        ],
    }
    return pages.render(
        request, "deployments/policy.html", context, partial="form", status=pages.status_of(form)
    )


@form_view
@pages.page
def set_balancer(request: PageRequest, id: UUID) -> HttpResponse:
    """Make a load balancer, or change the one that the address names."""
    environment = changeable(request, id)
    old = request.GET.get("name", "")
    there = environment.balancers.get(old)
    before: dict[str, Any] = {"name": old, **(there or {})}
    form = BalancerForm(pages.posted(request), actor=request.actor, initial=before)

    def act(values: dict[str, Any]) -> Environment:
        balancer = form.values()
        name = balancer.pop("name")
        return balancers.set_balancer(
            request.actor, environment, name, balancer, old=old if there else ""
        )

    return pages.dialog(
        request,
        "deployments/balancer.html",
        form,
        act,
        back=page_of(environment),
        told="The load balancer was kept.",
        title=f"Load balancer {old}" if there else "New load balancer",
        verb="Keep",
        up=page_of(environment),
    )


@require_POST
@pages.page
def remove_balancer(request: PageRequest, id: UUID) -> HttpResponse:
    """Remove a load balancer."""
    environment = changeable(request, id)
    name = request.POST.get("name", "")
    balancers.remove_balancer(request.actor, environment, name)
    return pages.done(request, page_of(environment), f"The load balancer {name} was removed.")
