from pathlib import Path

import pytest

from transmooth.checkpoint import resume


def test_state_of_another_spec_or_damaged_starts_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, spec = tmp_path / "resume.pt", {"seed": 1}
    resume.save_state(path, resume.new_state(spec) | {"step": 7})
    state = resume.load_state(path, spec)
    assert state is not None
    assert state["step"] == 7
    assert resume.load_state(path, {"seed": 2}) is None
    path.write_bytes(path.read_bytes()[:100])
    assert resume.load_state(path, spec) is None
    assert "damaged" in capsys.readouterr().out
