"""The dashboards in packaging/grafana, and graphite-web, which answers in this process."""

import json
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def panels(source):
    """Returns the panels of a dashboard that query something."""
    dashboard = json.loads((ROOT / f"packaging/grafana/{source}.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def filled_in(query, values):
    """Returns a query with values for its variables."""
    return re.sub(r"\$(\w+)", lambda variable: values[variable[1]], query)


class GraphiteWeb:
    """graphite-web, on the whisper files below a directory, and on what a carbon-cache has not written yet."""

    def __init__(self, storage, carbon=None):
        (storage / "whisper").mkdir(exist_ok=True)  # graphite-web looks for it only once
        carbons = [f"127.0.0.1:{carbon}:a"] if carbon else []
        (storage / "local_settings.py").write_text(
            f"SECRET_KEY = 'none'\nSTORAGE_DIR = CONF_DIR = LOG_DIR = '{storage}'\nCARBONLINK_HOSTS = {carbons}\n"
            "ALLOWED_HOSTS = ['testserver']\nFIND_CACHE_DURATION = 0\n")
        sys.path.insert(0, str(storage))
        os.environ["DJANGO_SETTINGS_MODULE"] = "graphite.settings"
        import django
        from django.test import Client

        django.setup()
        self.client = Client()

    def render(self, kind, **query):
        said = self.client.post("/render", query | {"noCache": "true"})
        assert (said.status_code, said["Content-Type"]) == (200, kind), said.content.decode()
        return said.content

    def series(self, query, **span):
        """Returns the values of each series by its name, and fails if a name is there twice."""
        answer = json.loads(self.render("application/json", target=query, format="json", **span))
        series = {one["target"]: [value for value, _ in one["datapoints"]] for one in answer}
        assert len(series) == len(answer), f"{query} gives names twice: {[one['target'] for one in answer]}"
        return series
