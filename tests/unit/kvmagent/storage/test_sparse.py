import os

from kvmagent.storage.sparse import open_writer, written


def test_what_is_under_way_tells_up_to_where_it_is_written(tmp_path):
    path = tmp_path / "volume"
    assert written(str(path)) == 0
    with open_writer(str(path)) as writer:
        writer.begin(0)
        writer.write(b"x" * 100_000)
        assert written(str(path)) == 100_000
        writer.write(bytes(50_000))
        (tmp_path / "link").symlink_to(path)
        assert written(str(tmp_path / "link")) == 150_000
    assert written(str(path)) == 0


def test_who_only_reads_says_nothing_of_it(tmp_path):
    path = tmp_path / "volume"
    path.write_bytes(b"x" * 1000)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.lseek(descriptor, 500, os.SEEK_SET)
        assert written(str(path)) == 0
    finally:
        os.close(descriptor)
