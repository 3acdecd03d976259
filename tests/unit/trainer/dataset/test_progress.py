"""The bar while images are decoded."""

import pytest

from trainer.dataset.progress import reading_progress


def test_the_bar_shows_how_many_images_are_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal: images done of all, images/s and the time left, on stderr."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with reading_progress() as listener:
        listener(0, 40)
        listener(30, 40)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "30/40" in shown.err.replace("\x1b[32m", "").replace("\x1b[0m", "")
    assert "images/s  left" in shown.err


def test_nothing_is_shown_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    """Logs stay free of bars."""
    with reading_progress() as listener:
        listener(30, 40)
    assert capsys.readouterr() == ("", "")
