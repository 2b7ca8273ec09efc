"""Where one request waits for another, and counts: how a test knows what has arrived, without a clock.
Kept in this process' memory, so that it takes a site with one worker."""
from threading import Lock, Semaphore

from django.http import HttpResponse

# Longest wait; only a broken test reaches it.
LIMIT = 120

gates = {}
tallies = {}
# Requests come on several threads.
tallying = Lock()


def gate(name):
    return gates.setdefault(name, Semaphore(0))


def open_gate(request, name):
    """Lets one waiting request on: one that waits now, or the next to come."""
    gate(name).release()
    return HttpResponse(status=204)


def wait_at_gate(request, name):
    """Answers when a request has opened the gate."""
    return HttpResponse(status=204 if gate(name).acquire(timeout=LIMIT) else 503)


def wait(request):
    """Waits at the gate that the request names, if any."""
    if name := request.GET.get('gate'):
        gate(name).acquire(timeout=LIMIT)


def opens(request):
    """Opens the gate that the request names, if any."""
    if name := request.GET.get('opens'):
        gate(name).release()


def tally(request, name):
    """Counts: any method adds one, but GET with `?read` only answers."""
    with tallying:
        if 'read' not in request.GET:
            tallies[name] = tallies.get(name, 0) + 1
        count = tallies.get(name, 0)
    return HttpResponse(str(count), content_type='text/plain')
