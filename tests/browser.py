"""Pages in a real browser: what they look like, what they do, and what they complain about."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here to open pages with: apt-get install chromium"
)

_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--enable-logging=stderr",
)  # fmt: skip

_CONSOLE = re.compile(r':CONSOLE[(:]\d+\)?\] "(.*?)", source: (\S*)')

_FRAMES = """<!doctype html><body style="margin:0">
{frames}<pre id="found"></pre>
<script>
const found = {{}};
const frames = [...document.querySelectorAll("iframe")];
for (const frame of frames) {{
  frame.addEventListener("load", () => {{
    const look = {script};
    found[frame.id] = look(frame.contentDocument, frame.contentWindow);
    if (Object.keys(found).length === frames.length)
      document.getElementById("found").textContent = JSON.stringify(found);
  }});
  frame.src = frame.dataset.src;
}}
</script>"""


def look_at(pages, folder, *, script, widths):
    """Open pages side by side, each at several widths.

    Args:
        pages: HTML by name.
        folder: An empty one for the browser's files.
        script: A JavaScript function of a page's document and window.
        widths: In pixels.

    Returns:
        What the script returned, by page and width, and the lines on the console.
    """
    frames = []
    for name, html in pages.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
        frames += [
            f'<iframe id="{name} {width}" data-src="{name}.html" style="border:0" width="{width}" '
            'height="900"></iframe>'
            for width in widths
        ]
    outside = folder / "frames.html"
    outside.write_text(_FRAMES.format(frames="\n".join(frames), script=script))
    done = _browse(
        folder, "--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom",
        outside.as_uri(),
    )  # fmt: skip
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, f"the pages did not load: {done.stderr[-2000:]}"
    results = {tuple(k.split()): v for k, v in json.loads(unescape(found[1])).items()}
    return results, _CONSOLE.findall(done.stderr)


def take_pictures(pages, folder, *, widths, height=1000):
    """Write each page and a picture of it at each width into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, html in pages.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
        for width in widths:
            # A window is at least 500 wide, so a frame makes the page narrow.
            outside = folder / "frame.html"
            outside.write_text(
                f'<body style="margin:0"><iframe src="{name}.html" style="border:0" '
                f'width="{width}" height="{height}"></iframe>'
            )
            _browse(
                folder, f"--window-size={max(width, 500)},{height}",
                f"--screenshot={folder / name}-{width}.png", outside.as_uri(),
            )  # fmt: skip


def _browse(folder, *arguments):
    profile = folder / "profile"
    return subprocess.run(
        [CHROMIUM, *_QUIET, f"--user-data-dir={profile}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
