#!/usr/bin/python3
"""draw.py XENMONITOR LIBXENSTAT STATSD_JS: draws docs/img/*.png.

xenmonitor, on a simulated host, sends to npm's statsd, which sends to carbon. graphite-web draws the queries of
packaging/grafana/graphite.json. statsd and carbon are configured as in docs/servers.md, but with other ports, and with
seconds instead of tens of seconds.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from socket import create_connection, socket

ROOT = Path(__file__).resolve().parents[2]
XENMONITOR, LIBXENSTAT, STATSD = sys.argv[1:]
SECONDS = 150
HOST = "xen1"

# The panels that are drawn, each for a domain.
PICTURES = {
    "cpu": ("CPU by domain", "*"),
    "memory": ("Memory by domain", "*"),
    "network": ("Network traffic to guests, by domain", "*"),
    "disks": ("Disk requests", "db01"),
}

# For each unit of Grafana: its description, the factor to reach it, and the unit system of the axis.
UNITS = {
    "percent": ("100 % is one CPU", 1, "none"),
    "kbytes": ("bytes", 1024, "binary"),
    "binBps": ("bytes a second", 1, "binary"),
    "iops": ("a second", 1, "none"),
}

# The only queries without an answer: the simulated host has no disk times.
UNANSWERED = ["rd_ms", "wr_ms"]

LOOK = {
    "width": 820, "height": 300, "margin": 12, "tz": "UTC", "xFormat": "%H:%M:%S", "yMin": 0, "hideLegend": "false",
    "bgcolor": "white", "fgcolor": "333333", "majorGridLineColor": "d8d8d8", "minorGridLineColor": "f2f2f2",
    "fontName": "DejaVu Sans", "fontSize": 10, "lineWidth": 1.5, "areaAlpha": 0.85,
    "colorList": "4e79a7,f28e2b,59a14f,b07aa1,e15759,76b7b2,edc948,9c755f",
}


def free_port():
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 30
    while True:
        try:
            return create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on port {port}"
            time.sleep(0.1)


def documented(file, **changes):
    """Returns a configuration file from docs/servers.md with other values for keys that have to be in it."""
    text = (ROOT / "docs/servers.md").read_text()
    block = re.search(rf"^```\w*\n(?://|#) {re.escape(file)}\b.*\n([^`]*)^```", text, re.M)
    assert block, f"docs/servers.md does not show {file}"
    text = block[1]
    for key, value in changes.items():
        text, count = re.subn(rf"\b({key}\s*[:=]\s*)[^,\s]+(,\S+)*", rf"\g<1>{value}", text)
        assert count == 1, f"{file} in docs/servers.md does not set {key} once"
    return text


def record(scratch):
    """Runs the programs, which leave whisper files; returns the time of the start."""
    carbon, pickle, query, statsd, management = (free_port() for _ in range(5))
    (scratch / "storage-schemas.conf").write_text(documented("/etc/carbon/storage-schemas.conf", retentions="1s:10m"))
    (scratch / "carbon.conf").write_text(
        f"[cache]\nSTORAGE_DIR = {scratch}\nLOCAL_DATA_DIR = {scratch}/whisper\nCONF_DIR = {scratch}\n"
        f"LOG_DIR = {scratch}\nPID_DIR = {scratch}\nUSER =\nLINE_RECEIVER_INTERFACE = 127.0.0.1\n"
        f"LINE_RECEIVER_PORT = {carbon}\nPICKLE_RECEIVER_INTERFACE = 127.0.0.1\nPICKLE_RECEIVER_PORT = {pickle}\n"
        f"CACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {query}\n"
        + documented("/etc/carbon/carbon.conf")
    )
    config = documented("/etc/statsd/config.js", port=statsd, graphitePort=carbon, flushInterval=1000)
    (scratch / "config.js").write_text(config.replace("{", f"{{ mgmt_port: {management}, mgmt_address: '127.0.0.1',", 1))
    log = open(scratch / "log", "w")
    servers = []
    try:
        servers.append(subprocess.Popen(
            ["carbon-cache", f"--config={scratch}/carbon.conf", "--nodaemon", "start"], stdout=log, stderr=log))
        wait_for(carbon)
        servers.append(subprocess.Popen(["node", STATSD, scratch / "config.js"], stdout=log, stderr=log))
        wait_for(management)
        # statsd flushes at whole seconds. Polls at half seconds are flushed as a whole.
        time.sleep(1.5 - time.time() % 1)
        began = int(time.time()) + 1
        subprocess.run(
            [XENMONITOR, "--host", HOST, "--interval", "1s", "--count", str(SECONDS), "--log", "warn",
             "--detail", "all", "--statsd", f"udp://127.0.0.1:{statsd}"],
            env={**os.environ, "XENMONITOR_LIBXENSTAT": LIBXENSTAT, "XENMONITOR_VIFS": "libxenstat",
                 "XENSTAT_SCENARIO": str(ROOT / "tests/shim/scenarios/busy.toml")},
            check=True, timeout=SECONDS + 60)
        time.sleep(1)
        return began
    except Exception:
        sys.stderr.write((scratch / "log").read_text())
        raise
    finally:
        # carbon writes its cache to disk when it is terminated.
        for server in reversed(servers):
            server.terminate()
            server.wait(30)


def filled_in(target, domain):
    """Returns a query of the dashboard with the values of its variables."""
    values = {"$prefix": "stats.gauges.xen", "$host": HOST, "$domain": domain}
    return re.sub(r"\$\w+", lambda variable: values[variable[0]], target["target"])


def drawn(panel, domain):
    """Returns the request that makes graphite-web draw a panel as Grafana would."""
    unit, factor, system = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    is_stacked = "stacking" in panel["fieldConfig"]["defaults"].get("custom", {})
    lines = [override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]]
    targets = []
    for target in panel["targets"]:
        text = filled_in(target, domain)
        if factor != 1:
            text = re.sub(r"stats\.[^,)]+", rf"scale(\g<0>, {factor})", text)
        if target["refId"] in lines:
            text = f"color(lineWidth({text}, 2), '333333')"
        elif is_stacked:
            text = f"stacked({text}, 'all')"
        targets.append(text)
    title = f"{panel['title']} ({unit})"
    return LOOK | {"target": targets, "title": title, "yUnitSystem": system}


def draw(scratch, began):
    """Draws with graphite-web, in this process."""
    settings = f"SECRET_KEY = 'none'\nSTORAGE_DIR = CONF_DIR = LOG_DIR = '{scratch}'\nALLOWED_HOSTS = ['testserver']\n"
    (scratch / "local_settings.py").write_text(settings)
    sys.path.insert(0, str(scratch))
    os.environ["DJANGO_SETTINGS_MODULE"] = "graphite.settings"
    import django
    from django.test import Client

    django.setup()
    span = {"from": began + 2, "until": began + SECONDS - 2}

    def answer(query, kind):
        said = Client().post("/render", query | span)
        assert (said.status_code, said["Content-Type"]) == (200, kind), said.content.decode()
        return said.content

    dashboard = json.loads((ROOT / "packaging/grafana/graphite.json").read_text())
    panels = {panel["title"]: panel for panel in dashboard["panels"] if panel["type"] != "row"}
    queries = [filled_in(target, "*") for panel in panels.values() for target in panel["targets"]]
    for query in queries:
        series = json.loads(answer({"target": query, "format": "json"}, "application/json"))
        has_values = any(value is not None for one in series for value, _ in one["datapoints"])
        assert has_values != any(gauge in query for gauge in UNANSWERED), f"{query} gives {series}"
    print(f"{len(queries)} queries asked, all but those of {', '.join(UNANSWERED)} answered")
    for name, (title, domain) in PICTURES.items():
        image = answer(drawn(panels[title], domain), "image/png")
        assert len(image) < 60_000, f"{name}.png is too large: {len(image)} bytes"
        (ROOT / f"docs/img/{name}.png").write_bytes(image)
        print(f"docs/img/{name}.png: {len(image)} bytes")


with tempfile.TemporaryDirectory() as directory:
    draw(Path(directory), record(Path(directory)))
