"""Fine-tunes an encoder: batches, AdamW, a falling learning rate, and the best weights on held-out questions.

What is learned is the caller's: it is given the rows of a batch, and calls `backward` itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.backends._encoder_model import EncoderModel, What
from septet.backends.encoder import EncoderEndpoint
from septet.core.backend import Endpoint
from septet.core.errors import BadParameter, ConfigError, MissingExtra
from septet.core.method import Rng
from septet.core.types import Floats
from septet.training._frozen import Frozen, stack_of

Index = NDArray[np.int64]
Say = Callable[[str], None]

READ_AT_ONCE = 32
"""Texts that are read at once where nothing is learned from them."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How long and how fast is learned. `every`: steps between two looks at the held-out questions;
    `patience`: looks without a better one after which it ends; 0: it never ends early."""

    lr: float
    steps: int
    every: int
    patience: int
    weight_decay: float = 0.01
    clip: float = 1.0


@dataclass
class Report:
    """What happened: the mean loss of the batches before each look, the held-out loss at each look, the one
    before the first step included, and after how many steps the kept weights were reached."""

    batches: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    kept_at: int = 0
    steps: int = 0

    def json(self) -> Mapping[str, Any]:
        """For the state's provenance."""
        return {
            "steps": self.steps,
            "kept_at_step": self.kept_at,
            "batch_loss": [round(x, 6) for x in self.batches],
            "held_out_loss": [round(x, 6) for x in self.looks],
        }


def only_encoder(roles: Mapping[str, tuple[Endpoint, ...]]) -> EncoderEndpoint:
    """The endpoint of the role `encoder`; it has to be one of the backend of that name."""
    found = roles.get("encoder", ())
    if len(found) != 1 or not isinstance(found[0], EncoderEndpoint):
        raise ConfigError("the role 'encoder' must be one member of the backend encoder, to be fine-tuned")
    return found[0]


def loaded(endpoint: EncoderEndpoint, max_length: int, rng: Rng) -> EncoderModel:
    """A copy of the endpoint's own encoder to be trained, with torch seeded. What was fitted before is left out;
    what its frozen layers say about a text is kept."""
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch", "train") from None
    torch.manual_seed(int(rng.integers(2**31)))
    base = endpoint if endpoint.weights is None else endpoint.trained(None)
    model = base.load(max_length)
    layers = endpoint.options.trained_layers
    if layers is not None and layers < model.source.layers:
        model.through = Frozen(model, layers).states
    return model


def check_held_out(n_known: int, n_held_out: int) -> None:
    """Refuses a table of which no question can be held out."""
    if not n_held_out:
        raise BadParameter("table", n_known, "must hold at least two questions with a score")


def rows_of(model: EncoderModel, texts: Sequence[str], what: What = "rows") -> Floats:
    """(n, d) rows, or (n, c) outputs of the head, without learning; like lengths are read together."""
    model.model.eval()
    order = np.argsort([len(t) for t in texts], kind="stable")
    parts = [
        model.rows([texts[i] for i in order[first : first + READ_AT_ONCE]], what)[0]
        for first in range(0, len(texts), READ_AT_ONCE)
    ]
    found = np.concatenate(parts)
    back = np.empty_like(found)
    back[order] = found
    return back


def fine_tune(
    model: EncoderModel,
    texts: Sequence[str],
    batches: Iterator[Index],
    learn: Callable[[Index, Any], float],
    look: Callable[[], float],
    course: Course,
    *,
    beside: Sequence[Any] = (),
    layers: int | None = None,
    snapshot: Callable[[], Any] = lambda: None,
    restore: Callable[[Any], None] = lambda kept: None,
    say: Say = lambda said: None,
) -> Report:
    """Learns for `course.steps` batches and leaves the model at its best look.

    `learn(index, pooled)` gets what was pooled (b, d) of a batch, a tensor with gradients, calls backward, and
    returns the loss; `look()` the loss on held-out questions. `beside`: further tensors that are learned.
    `layers`: how many of the last layers change. `snapshot` and `restore` carry what `beside` holds.
    """
    torch = model.torch
    changing = _trained(model, layers)
    trained = [*changing.values(), *beside]
    optimizer = torch.optim.AdamW(trained, lr=course.lr, weight_decay=course.weight_decay)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / course.steps)
    report, since = Report(looks=[look()]), 0
    best, kept = report.looks[0], (model.copied(changing), snapshot())
    recent: list[float] = []
    while report.steps < course.steps:
        index = next(batches)
        model.model.train()
        optimizer.zero_grad()
        loss = learn(index, model.pooled(model.read([texts[i] for i in index])))
        torch.nn.utils.clip_grad_norm_(trained, course.clip)
        optimizer.step()
        falling.step()
        report.steps += 1
        recent.append(loss)
        if report.steps % course.every and report.steps < course.steps:
            continue
        report.batches.append(float(np.mean(recent)))
        report.looks.append(look())
        recent.clear()
        say(f"step {report.steps} of {course.steps}, held-out loss {report.looks[-1]:.4f}")
        since += 1
        if report.looks[-1] < best:
            best, kept, since, report.kept_at = (
                report.looks[-1],
                (model.copied(changing), snapshot()),
                0,
                report.steps,
            )
        if since == course.patience:
            break
    model.restore(kept[0], partly=True)
    restore(kept[1])
    model.model.eval()
    return report


def epochs(index: Index, lengths: Sequence[int], size: int, rng: Rng) -> Iterator[Index]:
    """Batches for ever: all questions once per epoch, in a new order each time. Among each eight batches, like
    lengths come together, so that little of a batch is padding."""
    while True:
        order = rng.permutation(index)
        batches: list[Index] = []
        for first in range(0, len(order), 8 * size):
            some = order[first : first + 8 * size]
            some = some[np.argsort([lengths[i] for i in some], kind="stable")]
            batches += [some[i : i + size] for i in range(0, len(some), size)]
        for i in rng.permutation(len(batches)):
            yield batches[i]


def steps_per_epoch(n: int, size: int) -> int:
    """Batches in one epoch of n questions."""
    whole, rest = divmod(n, 8 * size)
    return whole * 8 + math.ceil(rest / size)


def _trained(model: EncoderModel, layers: int | None) -> dict[str, Any]:
    """The parameters that learn, by name; the others are frozen."""
    parameters = dict(model.model.named_parameters())
    if layers is not None:
        stack, all_layers = stack_of(model)
        learn = tuple(f"{stack}.{i}." for i in range(len(all_layers) - layers, len(all_layers)))
        for name, parameter in parameters.items():
            parameter.requires_grad_(name.startswith(learn))
    return {name: p for name, p in parameters.items() if p.requires_grad}
