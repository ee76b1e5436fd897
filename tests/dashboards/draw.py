#!/usr/bin/python3
"""draw.py XENMONITOR LIBXENSTAT: draws docs/img/*.png.

xenmonitor polls a simulated host for three hours on the clock of the fake libxenstat, which takes seconds. What it
prints for statsd is stored as statsd and carbon would store it, and graphite-web draws queries of
packaging/grafana/graphite.json.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import whisper
from dashboards import ROOT, GraphiteWeb, filled_in, panels

XENMONITOR, LIBXENSTAT = (os.path.abspath(path) for path in sys.argv[1:])
STEP, POLLS = 10, 1080
HOST = "xen1"

# The panels that are drawn, each for a domain.
PICTURES = {
    "cpu": ("CPU by domain", "*"),
    "memory": ("Memory by domain", "*"),
    "network": ("Network traffic to guests, by domain", "*"),
    "disks": ("Disk requests of a domain", "db01"),
}

# For each unit of Grafana: what the axis says, the factor to reach it, and the unit system of the axis.
UNITS = {
    "percent": ("percent of one CPU", 1, "none"),
    "kbytes": ("bytes", 1024, "binary"),
    "binBps": ("bytes per second", 1, "binary"),
    "iops": ("requests per second", 1, "none"),
}

LOOK = {
    "width": 820, "height": 300, "margin": 12, "tz": "UTC", "xFormat": "%H:%M", "yMin": 0, "hideLegend": "false",
    "bgcolor": "white", "fgcolor": "333333", "majorGridLineColor": "d8d8d8", "minorGridLineColor": "f2f2f2",
    "fontName": "DejaVu Sans", "fontSize": 10, "lineWidth": 1.5, "areaAlpha": 0.85,
    "colorList": "4e79a7,f28e2b,59a14f,b07aa1,e15759,76b7b2,edc948,9c755f",
}


def record(scratch):
    """Stores what xenmonitor prints; returns the time of the first poll."""
    scenario = scratch / "scenario.toml"
    scenario.write_text(f'clock_step = "{STEP}s"\n' + (ROOT / "tests/shim/scenarios/busy.toml").read_text())
    printed = subprocess.run(
        [XENMONITOR, "--host", HOST, "--interval", "10ms", "--count", str(POLLS), "--log", "error",
         "--no-metrics", "xenmonitor.*", "--print", "statsd"],  # those are also sent while a poll is late
        env={**os.environ, "LD_PRELOAD": LIBXENSTAT, "XENMONITOR_LIBXENSTAT": LIBXENSTAT,
             "XENMONITOR_VIFS": "libxenstat", "XENSTAT_SCENARIO": str(scenario)},
        check=True, capture_output=True, text=True, timeout=300).stdout
    began = int(time.time()) // 86400 * 86400 - 86400 + 9 * 3600  # yesterday at nine
    poll, seen, points = 0, set(), {}
    for line in printed.splitlines():
        name, value = line.removesuffix("|g").split(":")
        if name in seen:
            poll, seen = poll + 1, set()
        seen.add(name)
        points.setdefault(name, []).append((began + poll * STEP, float(value)))
    assert poll + 1 == POLLS, poll
    for name, values in points.items():
        path = scratch / "whisper/stats/gauges" / (name.replace(".", "/") + ".wsp")
        path.parent.mkdir(parents=True, exist_ok=True)
        whisper.create(str(path), [(STEP, 3 * 86400 // STEP)])
        whisper.update_many(str(path), values)
    return began


def drawn(panel, domain):
    """Returns the request that makes graphite-web draw a panel as Grafana would."""
    unit, factor, system = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    is_stacked = "stacking" in panel["fieldConfig"]["defaults"].get("custom", {})
    lines = {override["matcher"]["options"]: [property["id"] for property in override["properties"]]
             for override in panel["fieldConfig"]["overrides"]}
    targets = []
    for target in panel["targets"]:
        query = filled_in(target["target"], {"prefix": "stats.gauges.xen", "host": HOST, "domain": domain, "top": "10"})
        if factor != 1:
            query = re.sub(r"stats\.[^,)]+", rf"scale(\g<0>, {factor})", query)
        if target["refId"] in lines:
            if "custom.lineStyle" in lines[target["refId"]]:
                name = re.search(r"'([^']+)'\)$", query)[1]
                query = f"alias(dashed({query}), '{name}')"
            query = f"color(lineWidth({query}, 2), '333333')"
        elif is_stacked:
            query = f"stacked({query}, 'all')"
        targets.append(query)
    return LOOK | {"target": targets, "title": panel["title"], "vtitle": unit, "yUnitSystem": system}


with tempfile.TemporaryDirectory() as directory:
    scratch = Path(directory)
    began = record(scratch)
    web = GraphiteWeb(scratch)
    titled = {panel["title"]: panel for panel in panels("graphite")}
    for name, (title, domain) in PICTURES.items():
        request = drawn(titled[title], domain) | {"from": began + 2 * STEP, "until": began + (POLLS - 2) * STEP}
        image = web.render("image/png", **request)
        assert len(image) < 60_000, f"{name}.png is too large: {len(image)} bytes"
        (ROOT / f"docs/img/{name}.png").write_bytes(image)
        print(f"docs/img/{name}.png: {len(image)} bytes")
