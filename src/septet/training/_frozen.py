"""What the frozen layers of an encoder say about a text does not change while the others learn: it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from septet.backends._encoder_model import EncoderModel
from septet.core.errors import ConfigError

KEPT_BYTES = 2**30
"""Token states that are kept, in bytes; a text beyond that is read anew each time."""


class Frozen:
    """Token states of an encoder of which only the last `layers` learn.

    A text goes through the frozen layers once. After that, the last of them gives what is kept, and those before
    it give on what they get; so a batch costs only the layers that learn, and the result is the same. Frozen
    layers drop nothing out.
    """

    def __init__(self, model: EncoderModel, layers: int, limit: int = KEPT_BYTES) -> None:
        _, stack = stack_of(model)
        self._frozen = list(stack)[: len(stack) - layers]
        self._model, self._limit, self._size = model, limit, 0
        self._kept: dict[bytes, Any] = {}
        self._in_tuples = False

    def states(self, batch: Any) -> Any:
        """(n, t, d) token states of the last layer, through which gradients flow down to the first that learns."""
        mask = batch["attention_mask"].bool()
        keys = [ids[on].cpu().numpy().tobytes() for ids, on in zip(batch["input_ids"], mask, strict=True)]
        new = sorted({key: i for i, key in enumerate(keys) if key not in self._kept}.values())
        read = dict(zip([keys[i] for i in new], self._read(batch, mask, new), strict=True)) if new else {}
        rows = [self._kept[key] if key in self._kept else read[key] for key in keys]
        hidden = rows[0].new_zeros((*mask.shape, rows[0].shape[1]))
        for i, row in enumerate(rows):
            hidden[i, mask[i]] = row
        for key, row in read.items():
            self._keep(key, row)
        with self._giving(hidden):
            return self._model.states(batch)

    def _keep(self, key: bytes, row: Any) -> None:
        size = row.numel() * row.element_size()
        if self._size + size <= self._limit:
            self._kept[key] = row
            self._size += size

    def _read(self, batch: Any, mask: Any, new: list[int]) -> list[Any]:
        """(t, d) what the last frozen layer says about each of some texts, without padding."""
        inner, found = self._model.model, []

        def look(layer: Any, given: Any, output: Any) -> None:
            self._in_tuples = isinstance(output, tuple)
            found.append(output[0] if self._in_tuples else output)

        learning = inner.training
        inner.eval()
        hook = self._frozen[-1].register_forward_hook(look)
        try:
            with self._model.torch.no_grad():
                self._model.states({name: tensor[new] for name, tensor in batch.items()})
        finally:
            hook.remove()
            inner.train(learning)
        return [states[on].clone() for states, on in zip(found[0], mask[new], strict=True)]

    @contextmanager
    def _giving(self, hidden: Any) -> Iterator[None]:
        """The frozen layers give these states (n, t, d), whatever they get."""

        def give(*_: Any, **__: Any) -> Any:
            return (hidden,) if self._in_tuples else hidden

        for layer in self._frozen:
            layer.forward = give
        try:
            yield
        finally:
            for layer in self._frozen:
                del layer.forward


def stack_of(model: EncoderModel) -> tuple[str, Any]:
    """The list of an encoder's layers, and its name."""
    for name, child in model.model.named_modules():
        if type(child).__name__ == "ModuleList" and len(child) == model.source.layers:
            return name, child
    raise ConfigError(f"encoder: the layers of {model.source.name} cannot be found; leave trained_layers out")
