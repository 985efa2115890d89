"""Where each chat model is served, and whether its id stands in the path or in the body.

Sources: the models' pages under https://docs.kie.ai/market/chat, …/gemini, …/claude, …/codex and …/grok. Several of these
stream unless told not to.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path, `{m}` being the model's id, and whether the body names the model, too."""

    path: str
    names_model: bool = False


COMPLETIONS = Endpoint("/{m}/v1/chat/completions")
GEMINI = Endpoint("/gemini/v1/models/{m}:streamGenerateContent")
CLAUDE = Endpoint("/claude/v1/messages", names_model=True)
CODEX = Endpoint("/codex/v1/responses", names_model=True)
RESPONSES = Endpoint("/api/v1/responses", names_model=True)
GROK = Endpoint("/grok/v1/responses", names_model=True)

ENDPOINTS = {
    "gpt-5-2": COMPLETIONS,
    "gemini-2.5-flash": COMPLETIONS,
    "gemini-2.5-pro": COMPLETIONS,
    "gemini-3-flash": COMPLETIONS,
    "gemini-3-pro": COMPLETIONS,
    "gemini-3.1-pro": COMPLETIONS,
    "gemini-3-5-flash-openai": COMPLETIONS,
    "gemini-3-6-flash-openai": COMPLETIONS,
    "gemini-3-7-flash-openai": COMPLETIONS,
    "gemini-3-8-flash-openai": COMPLETIONS,
    "gemini-3-flash-v1betamodels": GEMINI,
    "gemini-3-5-flash": GEMINI,
    "gemini-3-6-flash": GEMINI,
    "gemini-3-7-flash": GEMINI,
    "claude-haiku-4-5": CLAUDE,
    "claude-sonnet-4-5": CLAUDE,
    "claude-sonnet-4-6": CLAUDE,
    "claude-sonnet-5": CLAUDE,
    "claude-opus-4-5": CLAUDE,
    "claude-opus-4-6": CLAUDE,
    "claude-opus-4-7": CLAUDE,
    "claude-opus-4-8": CLAUDE,
    "claude-opus-5": CLAUDE,
    "claude-fable-5": CLAUDE,
    "gpt-5-4": CODEX,
    "gpt-5-5": CODEX,
    "gpt-5-6-luna": CODEX,
    "gpt-5-6-sol": CODEX,
    "gpt-5-6-terra": CODEX,
    "gpt-5-codex": RESPONSES,
    "gpt-5.1-codex": RESPONSES,
    "gpt-5.2-codex": RESPONSES,
    "gpt-5.3-codex": RESPONSES,
    "gpt-5.4-codex": RESPONSES,
    "grok-4-3": GROK,
    "grok-4-5": GROK,
    "grok-4-6": GROK,
    "grok-4-7": GROK,
}


def endpoint(model: str) -> Endpoint:
    """Return where a model is served; one that nobody listed has most likely a path of its own."""
    return ENDPOINTS.get(model, COMPLETIONS)
