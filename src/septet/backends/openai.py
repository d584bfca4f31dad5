"""Any server that speaks OpenAI's API: hosted ones, vLLM, llama-server, Ollama. One connection pool each."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from septet.backends._openai_actor import RemoteActor
from septet.backends._openai_endpoint import Server, Stated
from septet.backends._openai_errors import Secret
from septet.backends._openai_flavours import FLAVOURS
from septet.backends._openai_http import Clocks, Http
from septet.core.backend import Backend, BackendCard, MemberSpec, Place, backend
from septet.core.caps import Caps
from septet.core.errors import BadParameter, ConfigError
from septet.core.method import param


@backend(
    BackendCard(
        title="An OpenAI-compatible server",
        offers="text, samples, streams, log-probabilities, tools; partial answers, sessions and scores where"
        " the flavour has them",
        tested=(
            "generic: an in-process server that makes every fault",
            "llama-server: live on loopback (xllamacpp, SmolLM2-135M-Instruct Q4_1)",
            "vllm, ollama: fixtures written from their documentation, never live",
        ),
    )
)
class Openai(Backend):
    """Where the server is, what it is, and how long to wait for it.

    `seed` fixes every draw of ours; whether a server keeps to it is the server's affair. A flavour is stated
    or, with "probe", asked for at the first call: a probed server offers only what every server does, since
    a pool is checked before anything is called.
    """

    base_url: Annotated[str, param("Where its API is, with the version, as in http://localhost:8080/v1.")] = (
        "https://api.openai.com/v1"
    )
    model: Annotated[str, param("The model's name at the server; llama-server needs none.")] = ""
    key_env: Annotated[str, param("The environment variable that holds the API key; empty: no key.")] = ""
    flavour: Annotated[
        Literal["generic", "vllm", "llama-server", "ollama", "probe"],
        param("What kind of server it is; probe: ask it at the first call."),
    ] = "generic"
    api: Annotated[
        Literal["chat", "completions"],
        param("completions: prompts are plain texts (base models); the default template is then qa."),
    ] = "chat"
    topk: Annotated[
        int | None, param("Alternatives per token that it allows; as its flavour has it.", ge=1)
    ] = None
    echo: Annotated[
        bool, param("Its completions endpoint gives the log-probabilities of the prompt back (echo).")
    ] = False
    context: Annotated[int, param("Tokens of prompt and answer together; 0: unknown.", ge=0)] = 0
    concurrency: Annotated[int, param("Calls at once.", ge=1, le=10_000)] = 8
    connect_seconds: Annotated[float, param("Until it is connected.", gt=0)] = 5.0
    first_byte_seconds: Annotated[
        float,
        param("Until a stream or an answer of one token begins; a whole reply has total_seconds.", gt=0),
    ] = 30.0
    idle_seconds: Annotated[float, param("Between two bytes of a reply.", gt=0)] = 30.0
    total_seconds: Annotated[float, param("For a whole call.", gt=0)] = 300.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            fits = False
        if fits and (parts.username or parts.password):
            # the value is not shown: it holds a secret
            raise ConfigError("openai.base_url: must hold no user or password; a key is named with key_env")
        if not fits or parts.query or parts.fragment:
            raise BadParameter("openai.base_url", self.base_url, "must be an http(s) URL without query")
        if not self.model and self.flavour != "llama-server":
            raise BadParameter("openai.model", self.model, "must name the model")

    def prompt(self, place: Place) -> str:
        """ "qa" for plain prompts, else "chat"."""
        return "qa" if self.api == "completions" else "chat"

    def connect(self, place: Place) -> OpenaiEndpoint:
        """Reads the key; nothing is called yet."""
        key = place.environment.get(self.key_env, "") if self.key_env else ""
        if self.key_env and not key.strip():
            raise ConfigError(
                f"the environment variable {self.key_env} (key_env) is not set; it must hold a key"
            )
        clocks = Clocks(
            connect=self.connect_seconds,
            first_byte=self.first_byte_seconds,
            idle=self.idle_seconds,
            total=self.total_seconds,
        )
        stated = Stated(
            model=self.model,
            flavour=FLAVOURS.get(self.flavour),
            topk=self.topk,
            context=self.context,
            echo=self.echo,
        )
        http = Http(self.base_url, Secret(key, self.key_env), clocks, self.model)
        return OpenaiEndpoint(
            Server(stated, http), plain=self.api == "completions", concurrency=self.concurrency
        )


class OpenaiEndpoint:
    """One server, shared by its members. `concurrency` is what the gate allows at once."""

    def __init__(self, server: Server, *, plain: bool, concurrency: int) -> None:
        self.server, self.concurrency, self._plain = server, concurrency, plain

    def caps(self) -> Caps:
        """What its members offer, without a call."""
        return self.server.caps(plain=self._plain)

    def member(self, spec: MemberSpec) -> RemoteActor:
        """A member; nothing is called."""
        if self._plain and spec.prompt.kind != "plain":
            rule = 'must be a plain template, such as "qa", for api = "completions"'
            raise BadParameter(f"members.{spec.name}.prompt", spec.prompt.kind, rule)
        return RemoteActor(self.server, spec)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.server.http.aclose()
