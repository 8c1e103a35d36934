import os

from hypergen.storage.atomic import write_json
from hypergen.storage.result_files import require_json, require_writable


def test_new_files_and_earlier_results_may_be_written(tmp_path):
    for require in (require_writable, require_json):
        require(tmp_path / "new.json")
    write_json(tmp_path / "a.json", {"attack": {}, "dataset": "digits", "networks": []})
    (tmp_path / "link.json").symlink_to("a.json")
    (tmp_path / "dangling.json").symlink_to("b.json")
    for name in ("a.json", "link.json", "dangling.json"):
        require_json(tmp_path / name)


def test_no_other_file_is_written_over(tmp_path, refused):
    report = {"attack": {}, "dataset": "digits", "networks": [], "value_network": {}}
    for name, content in (("a", "{}"), ("b", "["), ("c", "[]"), ("d", "\0")):
        (tmp_path / name).write_text(content)
        assert "no earlier result" in refused(require_json, tmp_path / name)
    write_json(tmp_path / "results.json", report)
    assert "no earlier result" in refused(require_json, tmp_path / "results.json")


def test_what_cannot_be_written_is_told(tmp_path, loop, refused):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", loop):
        assert "cannot be written" in refused(require_writable, path)
    assert "no folder" in refused(require_writable, tmp_path / "none" / "a.json")
