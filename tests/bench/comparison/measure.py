"""CPU time and memory of process trees, from /proc."""

import contextlib
import os
import pathlib
import statistics

TICK = 1 / os.sysconf('SC_CLK_TCK')


def tree(pid):
    """The process and all below it."""
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        found.append(each)
        # A process may end meanwhile, and its folder with it.
        with contextlib.suppress(OSError):
            for children in pathlib.Path(f'/proc/{each}/task').glob('*/children'):
                with contextlib.suppress(OSError):
                    waiting.extend(map(int, children.read_text().split()))
    return found


def threads(service, name):
    """CPU seconds that those threads of a process have used so far whose names begin like this."""
    total = 0.0
    for task in pathlib.Path(f'/proc/{service.pid}/task').iterdir():
        try:
            if (task / 'comm').read_text().startswith(name):
                total += int((task / 'schedstat').read_text().split()[0]) / 1e9
        except (OSError, IndexError):
            pass
    return total


def cpu(*services):
    """CPU seconds that the services' processes have used so far: their threads to the nanosecond, children that
    have ended to the tick."""
    total = 0.0
    for service in services:
        for pid in tree(service.pid):
            try:
                for schedule in pathlib.Path(f'/proc/{pid}/task').glob('*/schedstat'):
                    total += int(schedule.read_text().split()[0]) / 1e9
                ended = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
                total += (int(ended[13]) + int(ended[14])) * TICK
            except (OSError, IndexError):
                pass
    return total


def resident(service):
    """Resident memory in MiB, of the process itself."""
    for line in pathlib.Path(f'/proc/{service.pid}/status').read_text().splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) / 1024
    raise KeyError('VmRSS')


class Used:
    """CPU that services use within a `with` block, in seconds, each and together."""

    def __init__(self, *services):
        self.services = services

    def __enter__(self):
        self.before = [cpu(service) for service in self.services]
        return self

    def __exit__(self, *_):
        self.each = [cpu(service) - before for service, before in zip(self.services, self.before)]
        self.seconds = sum(self.each)


def median(values):
    return statistics.median(values)


def spread(values):
    """Smallest and largest."""
    return min(values), max(values)
