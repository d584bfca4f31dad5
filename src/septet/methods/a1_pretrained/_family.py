"""Pretrained routers: a fit on outcomes collected beforehand decides who answers, before anyone is asked."""

from __future__ import annotations

from septet.parts.routing.plan import Router


class PretrainedRouter(Router):
    """Gives `fit` and `utility`; see `Router` for the short form and the plan it becomes.

    `utility` may look at all its rows together: where the card's scope is "dataset", they are the queries of
    one call that share a task.
    """
