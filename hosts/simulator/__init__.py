"""Simulated Parallels DevOps hosts over real HTTP: the demo pool, the test peer, the load.

A bare ASGI application without Django. It implements ``contract/parallels-devops-api.md``
independently of ``hosts.drivers`` (neither imports the other), so that the two check each other.

Start it with ``python -m hosts.simulator`` or ``manage.py simulate_hosts``; both take the flags of
``hosts.simulator.cli``. ``hosts.simulator.control`` documents the control API,
``hosts.simulator.state`` what survives a restart.
"""
