"""How is something called that may hang? In a thread with a deadline; one that never returns is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from orchestrator.alerts.sinks.failing import SendFailed


async def aside(call: Callable[[], str], deadline_s: float) -> str:
    """What the call returns. Raises SendFailed: as the call does, for whatever else it raises, and when it is late."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def finish(result: str | Exception) -> None:
        if done.done():
            return
        if isinstance(result, str):
            done.set_result(result)
        else:
            done.set_exception(result)

    def work() -> None:
        result: str | Exception
        try:
            result = call()
        except SendFailed as error:
            result = error
        except Exception as error:  # a library's own bug is that service's, and no reason to lose the others
            result = SendFailed(f"{type(error).__name__}: {error}")
        try:
            loop.call_soon_threadsafe(finish, result)
        except RuntimeError:  # the loop has ended: whoever comes next calls again
            return

    threading.Thread(target=work, name="aside", daemon=True).start()
    try:
        # Not wait_for: in Python 3.11 it swallows a cancellation that comes together with the result.
        async with asyncio.timeout(deadline_s):
            return await done
    except TimeoutError:
        raise SendFailed(f"no answer within {deadline_s:.0f} s") from None
