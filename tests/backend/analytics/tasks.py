class _InProcessTask:
    """Stands in for a task queue: runs the function at once, in this process."""

    def __init__(self, function):
        self.function = function

    def delay(self, *args):
        self.function(*args)


@_InProcessTask
def track_page_view(profile_id):
    """What the queue's worker does with it costs the app nothing."""
