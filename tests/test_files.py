"""Files are written whole or not at all."""

import json
import stat

import pytest

from unified_diffusion.files import write_atomically, write_json, write_text


def test_what_is_written(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, 2.5], "y": "é"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, 2.5], "y": "é"}
    write_text(tmp_path / "a.csv", "1,2\r\n3,é\n")
    write_text(str(tmp_path / "a.csv"), "1,2\r\n4,é\n")
    assert (tmp_path / "a.csv").read_bytes() == "1,2\r\n4,é\n".encode()
    # Others may read it, as they may read every file that is opened and written.
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, error):
    def write(file):
        file.write(b"half")
        raise error

    (tmp_path / "a").write_text("old")
    with pytest.raises(type(error)):
        write_atomically(tmp_path / "a", write)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "nowhere" / "a", "")
