"""Does once for a batch what promptflow does anew for each line, with the same results: a fifth of its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import CodeType
from typing import Any

import promptflow.core._utils
import promptflow.tools.common
import promptflow.tracing._trace
from jinja2.sandbox import SandboxedEnvironment
from promptflow.contracts.tool import ConnectionType

from pf_mlflow.engine.replaced import replaced

__all__ = ["shortcuts"]

_is_connection_value = ConnectionType.is_connection_value


@contextmanager
def shortcuts() -> Iterator[None]:
    """Take them, in all threads, while the block lasts."""
    with ExitStack() as stack:
        stack.enter_context(replaced(ConnectionType, "is_connection_value", staticmethod(_is_connection)))
        names = lru_cache(maxsize=100)(promptflow.tracing._trace.get_input_names_for_prompt_template)
        stack.enter_context(replaced(promptflow.tracing._trace, "get_input_names_for_prompt_template", names))
        for module in (promptflow.core._utils, promptflow.tools.common):
            stack.enter_context(replaced(module, "SandboxedEnvironment", _Sandbox))
        yield


@lru_cache(maxsize=1000)
def _is_connection_type(kind: type) -> bool:
    return bool(_is_connection_value(kind))


def _is_connection(value: Any) -> bool:
    """Tell it by the type of a value, as promptflow does for each value of each record."""
    return _is_connection_type(value if isinstance(value, type) else type(value))


class _Sandbox(SandboxedEnvironment):
    """Compiles a prompt's template once."""

    def compile(self, source: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the code of a template."""
        if args or kwargs or not isinstance(source, str):
            return super().compile(source, *args, **kwargs)
        return _compiled(source, self.trim_blocks, self.keep_trailing_newline)


@lru_cache(maxsize=100)
def _compiled(source: str, trim_blocks: bool, keep_trailing_newline: bool) -> CodeType:
    sandbox = SandboxedEnvironment(trim_blocks=trim_blocks, keep_trailing_newline=keep_trailing_newline)
    code: CodeType = sandbox.compile(source)
    return code
