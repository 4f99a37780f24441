"""What this process holds in memory, in bytes; None where the system doesn't say."""

import sys
import threading

try:
    import resource
except ImportError:  # Windows
    resource = None


def _status(key):
    """A line of Linux' /proc/self/status."""
    try:
        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file)
    except OSError:
        return None
    return int(lines[key].split()[0]) * 1024 if key in lines else None


def resident():
    """Now; the most so far where only that is known."""
    now = _status("VmRSS")
    return peak() if now is None else now


def peak():
    """The most so far."""
    # Not ru_maxrss where there is a choice: it begins with what the parent process held.
    most = _status("VmHWM")
    if most is None and resource:
        unit = 1 if sys.platform == "darwin" else 1024
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return most


def anonymous():
    """Now, without the pages of files."""
    return _status("RssAnon")


class AnonymousPeak:
    """The most anonymous memory while the block runs, looked at every `interval` seconds."""

    def __init__(self, interval=0.02):
        self.most = self.before = anonymous()
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def added(self):
        """Bytes above what there was when the block began."""
        return None if self.most is None else self.most - self.before

    def _watch(self):
        while not self._stop.wait(self._interval):
            self.most = max(self.most, anonymous())

    def __enter__(self):
        if self.most is not None:
            self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        if self.most is not None:
            self._thread.join()
