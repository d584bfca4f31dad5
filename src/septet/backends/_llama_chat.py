"""A GGUF's own chat template, rendered in the sandbox that llama-cpp-python uses."""

from __future__ import annotations

from collections.abc import Mapping

from septet.backends._chat import ChatTemplate
from septet.core.backend import need
from septet.core.errors import ConfigError


def chat_template(source: str, specials: Mapping[str, int], bos: str, eos: str, model: str) -> ChatTemplate:
    """The template `source` (Jinja) of a model; `specials` maps the spelling of each special token to its id."""
    import jinja2  # a dependency of llama-cpp-python

    formatter = need("llama_cpp.llama_chat_format", extra="llamacpp").Jinja2ChatFormatter
    try:
        opened = formatter(source, eos, bos)
        closed = formatter(source, eos, bos, add_generation_prompt=False)
    except jinja2.TemplateError as error:
        raise ConfigError(f"the chat template of {model} cannot be read: {error}") from None

    def render(messages: list[dict[str, str]], answer_follows: bool) -> str:
        return str((opened if answer_follows else closed)(messages=messages).prompt)

    refusals = (jinja2.TemplateError, ValueError, TypeError)
    return ChatTemplate(render, source, specials, model=model, refusals=refusals)
