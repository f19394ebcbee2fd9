"""The forked implementation of the ports: processes that a supervisor starts, watches, reaps and takes with it."""

from actors.runtime.forked.entrance import RemoteSystem, connect
from actors.runtime.forked.placement import ForkedPlacement
from actors.runtime.forked.pool import Pool

__all__ = ["ForkedPlacement", "Pool", "RemoteSystem", "connect"]
