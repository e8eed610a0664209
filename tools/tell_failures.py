"""For pytest: tell each failure when it happens, for a run that may be cut.

    PYTHONPATH=tools python -m pytest -p tell_failures tests

pytest itself tells them all at the end.
"""

import pytest

TOLD = 2000  # characters of each, from its end


def pytest_configure(config):
    config.pluginmanager.register(Teller(config), "teller")


class Teller:
    """Writes to where pytest tells how it gets on."""

    def __init__(self, config):
        self.config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report):
        if report.failed:
            terminal = self.config.pluginmanager.getplugin("terminalreporter")
            terminal.write_line(f"\n{report.nodeid}\n{report.longreprtext[-TOLD:]}")
