"""The page of a load, looked at in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

import diskless
from diskless.cli import main, report
from diskless.cli.recording import Recording
from diskless.events import PartFetched, Retried
from diskless.stats import Stats
from tests.cli.conftest import environment_of
from tests.loader.fault_server import Fault, FaultServer, Get

MIB = 1 << 20
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
browser = pytest.mark.skipif(BROWSER is None, reason="needs Debian's chromium")


def _look(page: Path, *options: str) -> tuple[str, str]:
    """Return the document as the browser has it once the page's script ran, and what it logged."""
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            f"--user-data-dir={page.parent / 'profile'}",
            "--window-size=1200,1000",
            *options,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stdout, done.stderr


@browser
def test_a_browser_shows_every_part_and_every_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed: list[Get] = []

    def plan(get: Get) -> Fault | None:
        if get.start == 4 * MIB and not failed:
            failed.append(get)
            return Fault(close_after=MIB)
        return Fault(pause_s=0.002)

    objects = {f"m/<b>{number}</b>": bytes(9 * MIB) for number in range(2)}
    page = tmp_path / "out.html"
    with FaultServer(objects, plan=plan) as server:
        for name, value in environment_of(server).items():
            monkeypatch.setenv(name, value)
        assert main(["load", f"{server.url}/m", "--report", str(page)]) == 0
    assert capsys.readouterr().out.endswith(f"the transfer as a picture: {page}\n")

    document, _ = _look(page, "--dump-dom")
    assert "<title>s3://faulty/m · diskless load</title>" in document
    bars = re.findall(
        r'<rect class="bar (\w+)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"[^>]*data-tip="([^"]*)"', document
    )
    kinds = [kind for kind, *_ in bars]
    # One file has one color and the other another, but for the part that was retried.
    assert sorted((kinds.count("one"), kinds.count("two"), kinds.count("retried"))) == [1, 2, 3]
    assert all(float(x) >= 76 and float(x) + float(width) <= 1069 for _, x, width, _ in bars)
    assert all(unescape(told).startswith("<b>") for *_, told in bars)
    assert document.count('<circle class="retry"') == 1
    assert document.count('class="curve"') == 2 and document.count('class="cursor"') == 3
    assert "<b>0</b>," not in document, "a name is no markup"

    _, logged = _look(page, f"--screenshot={tmp_path / 'page.png'}")
    assert "CONSOLE" not in logged
    image = Image.open(tmp_path / "page.png").convert("RGB")
    colors = {color: count for count, color in image.getcolors(1 << 20)}
    # Of both kinds of bars, of one that was retried, and of what they stand on.
    for color in ("2f6fd6", "86b0f0", "e08a1e", "ffffff"):
        assert colors.get(tuple(bytes.fromhex(color)), 0) > 500, color


@browser
def test_a_console_error_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    page.write_text(
        report.page("s3://b/m", Stats(), Recording()).replace("const tip", "const tip = nothing.there, tap")
    )
    _, logged = _look(page, "--dump-dom")
    assert "CONSOLE" in logged


def test_no_secret_and_nothing_from_elsewhere_is_in_it() -> None:
    url = "https://user:hunter2@host/model.bin?X-Amz-Signature=abcdef"
    error = diskless.TransferError("s3://b: secret_access_key=hunter2 </p><script>alert(1)</script>")
    page = report.page(url, Stats(), Recording(), error)
    assert "hunter2" not in page and "abcdef" not in page and "<script>alert" not in page
    assert not re.search(r"\b(src|href)=", page)
    assert not re.search(r"url\(|@import|fetch\(", page)


def test_a_page_of_twenty_thousand_parts_is_small() -> None:
    recording = Recording()
    for number in range(20_000):
        began_s = recording._began_s + number // 64 * 0.02
        recording.add(PartFetched("a", number, number + 1, number % 64, began_s, began_s + 0.019, 1))
    for number in range(5000):
        recording.add(Retried("a", number, number + 1, number % 64, recording._began_s + number / 1000, "why"))
    page = report.page("s3://b/m", Stats(files=1, size_bytes=20_000), recording)
    assert len(page) < 1 << 20
    assert 1000 < page.count("<rect") < 3200
    assert "20,000, by connection, drawn as" in page and "the first 20 of 5,000" in page
