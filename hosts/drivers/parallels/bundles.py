"""The calls about folders of VMs on a host's disk (contract 2.3, 2.7, 8.28)."""

from __future__ import annotations

import math
from typing import Any

from hosts.drivers.base import Limits

from .calls import Call
from .messages import Answer
from .reading import Node, WrongAnswer


def folder_size(path: str, user: str, limits: Limits) -> Call[int | None]:
    return Call(
        "measure the folder",
        "POST",
        "/v1/config/diskspace",
        limits.measure_seconds,
        _size,
        body={"folder_path": path, **({"username": user} if user else {})},
    )


def _size(document: Any, answer: Answer) -> int | None:
    node = Node.of(document)
    if node.values.get("given_path_size") is None:
        return None
    size = math.ceil(node.number("given_path_size"))
    if size < 0:
        raise WrongAnswer("the number in given_path_size is negative")
    return size
