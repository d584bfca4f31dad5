"""What a model that only writes text does not offer, refused in one place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.backend import MemberSpec
from septet.core.errors import BackendError, ConfigError
from septet.core.types import Floats, Metered, Query, Run


class Unable(ABC):
    """The abilities of encoders, judges and executors, each a BackendError. An actor that has one overrides it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The member's name."""

    async def embed(self, texts: Sequence[str]) -> Metered[Floats]:
        """Not offered by a text model."""
        raise self._lacks("embed")

    async def rate(self, query: Query, texts: Sequence[str]) -> Metered[Floats]:
        """Not offered by a text model."""
        raise self._lacks("rate")

    async def compare(self, query: Query, texts: Sequence[str]) -> Metered[Floats]:
        """Not offered by a text model."""
        raise self._lacks("compare")

    async def run(self, code: str) -> Metered[Run]:
        """Not offered by a text model."""
        raise self._lacks("run")

    def matrix(self, side: Literal["input", "output"]) -> NDArray[np.float32]:
        """Not offered, unless a backend says so."""
        raise self._lacks("matrices")

    def _lacks(self, ability: str, detail: str = "") -> BackendError:
        return BackendError(f"{self.name} does not offer {ability}{detail}", status=400)


def refuse_chat(spec: MemberSpec, model: str, template: str | bool) -> None:
    """A ConfigError where a member wants a chat from a model that has no chat template."""
    if spec.prompt.kind == "chat" and not template:
        raise ConfigError(
            f"{spec.name}: {model} has no chat template, since it is a base model; "
            'give the member prompt = "qa" (or "qa-cot", or a prompt of kind "plain")'
        )
