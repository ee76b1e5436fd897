#!/usr/bin/env python3
"""terminal.py XENMONITOR LIBXENSTAT - draws docs/img/watch.svg: the screen of `xenmonitor --watch` on a simulated host,
as tmux shows it."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

program, library = (os.path.abspath(path) for path in sys.argv[1:3])
root = Path(__file__).resolve().parents[2]
COLUMNS, LINES = 110, 12

# As rich draws it, but without fonts from elsewhere.
SVG = """<svg viewBox="0 30 {width} {height}" xml:space="preserve" xmlns="http://www.w3.org/2000/svg">
<style>.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px }} {styles}</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
<rect fill="#1e1e1e" width="{width}" height="{height}" />
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


def tmux(*arguments):
    return subprocess.run(["tmux", "-L", "xenmonitor", *arguments], check=True, text=True, capture_output=True).stdout


environment = {
    "XENSTAT_SCENARIO": root / "tests/shim/scenarios/demo.toml",
    "XENMONITOR_LIBXENSTAT": library,
    "XENMONITOR_VIFS": "libxenstat",
}
command = " ".join(f"{name}='{value}'" for name, value in environment.items())
tmux("new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), f"{command} '{program}' --host xen1 --watch --interval 1s")
try:
    while " 0.0 % used" in (page := tmux("capture-pane", "-p")) or "% used" not in page:
        time.sleep(0.2)
    page = tmux("capture-pane", "-p", "-e")
finally:
    tmux("kill-server")

console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
for line in page.splitlines():
    console.print(Text.from_ansi(line), no_wrap=True, crop=True)
svg = console.export_svg(theme=DIMMED_MONOKAI, code_format=SVG, unique_id="watch", title="")
(root / "docs/img/watch.svg").write_text(svg)
