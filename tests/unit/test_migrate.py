"""A folder of migrations is refused as a whole when it could not be taken back or told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.database.migrate import MigrationError, read


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(f"select '{name}';")


def test_steps_are_read_in_order_with_their_rollbacks(tmp_path: Path) -> None:
    write(tmp_path, "0002_b.sql", "0002_b.rollback.sql", "0001_a.sql", "0001_a.rollback.sql")
    steps = read(tmp_path)
    assert [step.title for step in steps] == ["0001_a", "0002_b"]
    assert steps[0].down == "select '0001_a.rollback.sql';"
    assert len(steps[0].checksum) == 64


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("0001_a.sql",), r"0001_a\.sql cannot be taken back: write 0001_a\.rollback\.sql\."),
        (("0001_a.rollback.sql",), r"0001_a\.rollback\.sql rolls back nothing: add its step or remove it\."),
        (("first.sql", "first.rollback.sql"), r"first\.sql is not called NNNN_name\.sql: rename it\."),
        (("0002_a.sql", "0002_a.rollback.sql"), r"0002_a\.sql comes where number 0001 is due: renumber it\."),
        (
            ("0001_a.sql", "0001_a.rollback.sql", "0001_b.sql", "0001_b.rollback.sql"),
            r"0001_b\.sql comes where number 0002 is due: renumber it\.",
        ),
    ],
)
def test_a_folder_that_makes_no_sense_is_refused(tmp_path: Path, names: tuple[str, ...], sentence: str) -> None:
    """COM-61: each step is numbered once and has a rollback."""
    write(tmp_path, *names)
    with pytest.raises(MigrationError, match=sentence):
        read(tmp_path)


def test_our_own_steps_are_in_order() -> None:
    """COM-61: every migration of the product has a rollback."""
    assert [step.number for step in read()] == list(range(1, len(read()) + 1))
