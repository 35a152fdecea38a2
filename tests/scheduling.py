"""How xdist hands out test files when a worker is lost; `conftest.py` has the hook."""

from xdist.scheduler import LoadFileScheduling


class FilesAfterALoss(LoadFileScheduling):
    """Hands on the rest of a lost worker's files, where xdist 3.8.0 waits for ever.

    There a replacement is handed files that are done, or a single test, and asks for no more
    (pytest-xdist issues 1323 and 1327); and it runs the deadly test again, for ever if it may
    (pull request 1371).
    """

    def remove_node(self, node):
        """Queue what a worker has left, but for the test it was lost in, which is returned."""
        units = self.assigned_work.pop(node)
        left = {
            unit: {test: False for test, is_done in tests.items() if not is_done}
            for unit, tests in units.items()
        }
        lost_in = next((test for tests in left.values() for test in tests), None)
        for unit, tests in left.items():
            tests.pop(lost_in, None)
            if tests:
                self.workqueue[unit] = tests
        for other in self.nodes:
            self._reschedule(other)
        return lost_in

    def _reschedule(self, node):
        super()._reschedule(node)
        # A worker begins a test only when it knows of a next one, or that there is none.
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)


def pytest_xdist_make_scheduler(config, log):
    """The scheduler of `--dist loadfile`."""
    return FilesAfterALoss(config, log) if config.getvalue("dist") == "loadfile" else None
