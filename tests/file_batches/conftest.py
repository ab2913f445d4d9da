import pytest

from air_jax.file_registration import reports, run


@pytest.fixture
def without_report(monkeypatch):
    """Leaves out the figure of each pair, which takes seconds, where a test does not look at it."""

    def draw(inputs, displacement, scores, seconds, folder):
        for name in (reports.PICTURE, reports.PAGE):
            (folder / name).touch()

    monkeypatch.setattr(run, "draw_reports", draw)
