"""Models out: one contract, two lanes (OpenAI's wire format, and litellm for everything else), and simulated ones."""
