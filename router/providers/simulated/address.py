"""Where the clients of each simulated provider start: all on one port of this machine."""

from __future__ import annotations

from router.providers.child import LOOPBACK


class Address:
    """The URLs of a port, which a provider sets once it has one."""

    port: int

    @property
    def root_url(self) -> str:
        """Where Anthropic's clients start: they add `/v1/messages`."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def base_url(self) -> str:
        """Where OpenAI's clients start: they add `/chat/completions`."""
        return f"{self.root_url}/v1"

    @property
    def gemini_url(self) -> str:
        """Where Gemini's clients start: they add `/models/NAME:generateContent`."""
        return f"{self.root_url}/v1beta"
