import pytest

from air_jax.file_registration import run


@pytest.fixture
def without_report(monkeypatch):
    """Leaves out the figure of each pair, which takes seconds, where a test does not look at it."""
    monkeypatch.setattr(run, "draw_report", lambda *arguments: None)
