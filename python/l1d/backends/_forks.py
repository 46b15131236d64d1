"""The lock of the backends' few shared records, which no forked child inherits locked."""

import os
import threading

lock = threading.Lock()

os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
