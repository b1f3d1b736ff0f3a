"""Who is told? The `Notifier` port: the log always, and the hook of this home where there is one.

`$LASTGOOD_HOME/on-alert` (any executable) gets the alert as one JSON object on its standard input. It is started and
not waited for: a notification service that hangs must never delay a recovery.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
from dataclasses import asdict

from orchestrator.core.actions import Alert
from orchestrator.home import Home

log = logging.getLogger(__name__)

HOOK_S = 60.0
AGAIN_S = (5.0, 60.0, 600.0)
"""waits after a hook that failed: a page must not be lost to a network that was away for a moment"""


class HookNotifier:
    """Log, and the hook."""

    def __init__(self, home: Home, *, again_s: tuple[float, ...] = AGAIN_S) -> None:
        self._hook = home.root / "on-alert"
        self._again_s = again_s

    def alert(self, run: str, order: Alert) -> None:
        """Tell them."""
        log.log(logging.ERROR if order.page else logging.WARNING, "%s %s: %s", run, order.title, order.text)
        if os.access(self._hook, os.X_OK):
            body = json.dumps({"run": run, **asdict(order)})
            threading.Thread(target=self._run_hook, args=(body,), daemon=True).start()

    def alert_now(self, order: Alert) -> None:
        """Tell them of the supervisor itself, and wait until the hook has ended: the process is about to."""
        if os.access(self._hook, os.X_OK):
            self._call(json.dumps({"run": None, **asdict(order)}))

    def _run_hook(self, body: str) -> None:
        never = threading.Event()
        for again_s in (*self._again_s, None):
            if self._call(body):
                return
            log.error("the alert hook: %s", f"again in {again_s:.0f} s" if again_s else "given up")
            never.wait(again_s or 0.0)

    def _call(self, body: str) -> bool:
        try:
            subprocess.run([str(self._hook)], input=body, text=True, timeout=HOOK_S, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            log.error("the alert hook failed: %s", error)
            return False
        return True
