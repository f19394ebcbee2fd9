"""Every statement has a name, and a name that is wrong is found when the program starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.database.queries import FOLDER, QueryError, load


def test_a_statement_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "cats.sql").write_text(
        "-- Cats.\n\n-- name: by owner\n-- oldest first\nselect 1;\n\n-- name: feed\nselect 2;\n"
    )
    cats = load("cats", "by_owner", "feed", folder=tmp_path)
    assert cats.by_owner == "-- oldest first\nselect 1"
    assert cats.feed == "select 2"
    with pytest.raises(AttributeError, match=r"queries/cats\.sql has no query named fed; did you mean feed\?"):
        _ = cats.fed


@pytest.mark.parametrize(
    ("text", "needed", "sentence"),
    [
        ("-- name: feed\nselect 1;", ("feed", "pat"), r"cats\.sql lacks pat; it has feed\."),
        ("-- name: feed\nselect 1;\n-- name: pat\nselect 2;", ("feed",), "nobody uses pat; remove them"),
        ("-- name: feed\nselect 1;\n-- name: feed\nselect 2;", (), "'feed' is used twice"),
        ("-- name: feed\n-- nothing\n;\n", (), "'feed' has no statement"),
        ("-- name: Feed!\nselect 1;", (), "'Feed!' is no name"),
        ("select 1;", (), "names no query"),
    ],
)
def test_a_wrong_file_is_refused_when_it_is_loaded(
    tmp_path: Path, text: str, needed: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "cats.sql").write_text(text)
    with pytest.raises(QueryError, match=sentence):
        load("cats", *needed, folder=tmp_path)


def test_a_noun_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"There is no dogs\.sql"):
        load("dogs", folder=tmp_path)


def test_every_file_of_ours_can_be_loaded() -> None:
    for path in FOLDER.glob("*.sql"):
        assert list(load(path.stem))
