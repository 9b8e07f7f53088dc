import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock

from fedmeta.data.download import fetch
from fedmeta.errors import DownloadError, UsageError

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT under names that say how it goes wrong; remembers the ranges it was asked for."""

    ranges: list = []  # noqa: RUF012 (set anew for each server)

    def do_GET(self):
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        name = self.path.strip("/")
        if name == "absent":
            self.send_error(404)
            return
        content = {"corrupt": CONTENT[::-1], "zipped": gzip.compress(CONTENT)}.get(name, CONTENT)
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and name != "rangeless" else 0
        if first >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        body = content[first:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if name == "truncated" else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    handler = type("Remembering", (Handler,), {"ranges": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        running.address = f"http://127.0.0.1:{running.server_port}"
        yield running
        running.shutdown()
        thread.join()


def parts(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_file_comes_whole_and_says_how_far_it_is(server, tmp_path):
    steps = []
    fetch(f"{server.address}/good", tmp_path / "new" / "file", DIGEST, progress=lambda *step: steps.append(step))
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert parts(tmp_path / "new") == ["file"]
    assert steps[-1] == ("file", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)


def test_a_cut_file_is_not_taken_and_the_next_call_goes_on_from_it(server, tmp_path):
    with pytest.raises(DownloadError, match=f"cut short: {len(CONTENT) // 2} of {len(CONTENT)} bytes"):
        fetch(f"{server.address}/truncated", tmp_path / "file", DIGEST)
    assert parts(tmp_path) == ["file.part"]
    fetch(f"{server.address}/good", tmp_path / "file", DIGEST)
    assert server.RequestHandlerClass.ranges == [None, f"bytes={len(CONTENT) // 2}-"]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert parts(tmp_path) == ["file"]


def test_a_server_that_knows_no_ranges_sends_it_anew(server, tmp_path):
    (tmp_path / "file.part").write_bytes(b"stale")
    fetch(f"{server.address}/rangeless", tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_taken(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    fetch(f"{server.address}/good", tmp_path / "file", DIGEST)
    assert parts(tmp_path) == ["file"]


@pytest.mark.parametrize("stale", [b"", b"wrong beginning"])
def test_wrong_content_is_discarded_and_both_digests_are_said(server, tmp_path, stale):
    (tmp_path / "file.part").write_bytes(stale)
    name = "good" if stale else "corrupt"
    with pytest.raises(DownloadError, match=f"sha256 [0-9a-f]{{64}}, expected {DIGEST}"):
        fetch(f"{server.address}/{name}", tmp_path / "file", DIGEST)
    assert parts(tmp_path) == []


def test_a_gzip_file_is_checked_by_what_it_unpacks_to(server, tmp_path):
    fetch(f"{server.address}/zipped", tmp_path / "file.gz", DIGEST, gzipped=True)
    assert gzip.decompress((tmp_path / "file.gz").read_bytes()) == CONTENT
    with pytest.raises(DownloadError, match="no whole gzip file"):
        fetch(f"{server.address}/good", tmp_path / "other.gz", DIGEST, gzipped=True)


def test_an_absent_file_is_one_line(server, tmp_path):
    with pytest.raises(DownloadError, match="/absent answered 404 Not Found") as caught:
        fetch(f"{server.address}/absent", tmp_path / "file", DIGEST)
    assert "\n" not in str(caught.value)


def test_a_host_that_does_not_answer_is_one_line(server, tmp_path):
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match=r"cannot be fetched: .*refused") as caught:
        fetch(f"http://127.0.0.1:{port}/good", tmp_path / "file", DIGEST)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_one_line_before_anything_is_asked_for(server):
    with pytest.raises(DownloadError, match=r"the folder /dev/null/x cannot be made: Not a directory$"):
        fetch(f"{server.address}/good", Path("/dev/null/x/file"), DIGEST)
    assert server.RequestHandlerClass.ranges == []


def test_a_full_disk_is_one_line(server, tmp_path):
    (tmp_path / "file.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"file\.part cannot be written: No space left on device$"):
        fetch(f"{server.address}/good", tmp_path / "file", DIGEST)


@pytest.mark.parametrize("taken", ["file", "file.part", ".file.lock"])
def test_a_name_that_a_folder_has_is_one_line(server, tmp_path, taken):
    (tmp_path / taken / "inside").mkdir(parents=True)
    with pytest.raises(DownloadError, match=r"cannot be written: Is a directory$"):
        fetch(f"{server.address}/good", tmp_path / "file", DIGEST)


def test_one_process_fetches_a_file_at_a_time(server, tmp_path):
    with FileLock(tmp_path / ".file.lock"), pytest.raises(DownloadError, match="another process"):
        fetch(f"{server.address}/good", tmp_path / "file", DIGEST)


def test_only_web_addresses_are_fetched(tmp_path):
    with pytest.raises(UsageError, match="http"):
        fetch("file:///etc/hosts", tmp_path / "file", DIGEST)
