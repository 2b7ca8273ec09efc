from collections import Counter


class _InProcessTask:
    """Stands in for a task queue: runs the function at once, in this process."""

    def __init__(self, function):
        self.function = function

    def delay(self, *args):
        self.function(*args)


# profile id -> page views seen by this worker process
page_views = Counter()


@_InProcessTask
def track_page_view(profile_id):
    page_views[profile_id] += 1
