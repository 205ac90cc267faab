import warnings

import pytest

from tests.helpers.calls import call
from transmooth.cli.options import joined, warn_in_one_line


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--radii 0,0.25 log.tsv", "--radii 0,0.25 log.tsv"),
        ("--radii 0 0.25 1e-3 log.tsv", "--radii 0,0.25,1e-3 log.tsv"),
        ("log.tsv --radii 0 .25", "log.tsv --radii 0,.25"),
        ("--sigmas 0 0.5 --size 16", "--sigmas 0,0.5 --size 16"),
        ("--size 16 20 --radii 0", "--size 16 20 --radii 0"),
        ("--radii", "--radii"),
        ("--sigma 1 --n 5 --sigma 2", "--sigma 1,2 --n 5"),
    ],
)
def test_a_list_of_numbers_may_have_spaces(typed: str, meant: str) -> None:
    assert joined(typed.split()) == meant.split()


def test_commands_take_lists_with_commas_and_with_spaces() -> None:
    for radii in (["0", "0.25"], ["0,0.25"], ["0, 0.25"], ["0 0.25"]):
        assert "no such file" in call("accuracy", "none.tsv", "--radii", *radii, status=1).stderr


def test_a_warning_is_a_note_of_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    warn_in_one_line()
    warnings.showwarning("this\nand that", UserWarning, "file.py", 3)
    assert capsys.readouterr().err == "note: this and that\n"
