"""A stand-in for the agent, for tests of what launches it: it does what the variable STAND_IN says.

Put on PYTHONPATH as `sitecustomize`, it runs before `-m jobs.agent` is looked up; every other process is left alone.
"""

import os
import signal
import sys
import time
from pathlib import Path

if "jobs.agent" in sys.orig_argv:
    words = sys.orig_argv[sys.orig_argv.index("jobs.agent") + 1 :]
    print("agent", *words, flush=True)
    if os.environ.get("STAND_IN") == "crash":
        sys.stderr.write("ImportError: no module named nothing\n")
        os._exit(3)
    said = dict(zip(words[::2], words[1::2], strict=True))
    attempt = Path(said["--home"], "runs", said["--run"], "attempts", f"{int(said['--attempt']):03}")
    (attempt / f"node{said['--node']}").mkdir(parents=True, exist_ok=True)
    (attempt / f"node{said['--node']}" / "agent.json").write_text("{}")
    # A worker in a session of its own, as real ones are; it ignores what torchrun would send.
    if os.environ.get("STAND_IN") == "family" and os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.fork()
    time.sleep(600)
    os._exit(0)
