"""What marks the built-in offline model, which answers without a language model, in connections and in records."""

from __future__ import annotations

__all__ = ["OFFLINE_KEY", "OFFLINE_MODEL"]

OFFLINE_MODEL = "offline-model (no real LLM)"
"""Its name, in requests to it and in its responses."""
OFFLINE_KEY = "offline"
"""What stands for an API key in connections to it."""
