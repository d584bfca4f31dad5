"""Non-pretrained routers: training-free, or learning mainly while they serve."""

from __future__ import annotations

from septet.parts.routing.plan import Router


class NonPretrainedRouter(Router):
    """Gives `utility`, and `update` or a `choose` that spends; see `Router` for the short form and the plan."""
