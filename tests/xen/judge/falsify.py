"""FALSIFY=1 make e2e-xen: alters what the programs say while a check runs. Then none of its judgements may hold."""

import itertools
import re

# The name of the function that checks, if what it reads is to be altered, and how many servers it has started.
current, servers = None, 0


def during(function):
    """Begins with the alterations for a function, or ends all with None."""
    global current, servers
    current, servers = function, 0


def next_server():
    global servers
    servers += 1
    return servers - 1


class Falsehood:
    """Alters what a function reads. By default every metric gets a negative value and every exit code is one higher;
    texts, JSON and xentop's tables stay."""

    def __init__(self, metric=None, document=None, tables=None, text=None):
        self.metric = metric or every_number
        self.document = document or (lambda document: None)
        self.tables = tables or (lambda tables: None)
        self.text = text or (lambda text: text)


def every_number(name, value, server):
    return [(name, -1 - value)]


def of_function():
    return FALSEHOODS.get(current, Falsehood())


def line(line, server):
    """What a server is to get instead of a line. `server`: how many servers the function started before it."""
    if not current or not (found := re.fullmatch(r"(.*):([0-9.]+)\|g", line)):
        return [line]
    return [f"{name}:{value}|g" for name, value in of_function().metric(found[1], float(found[2]), server)]


def document(document):
    if current:
        of_function().document(document)
    return document


def tables(tables):
    if current:
        of_function().tables(tables)
    return tables


def text(text):
    return of_function().text(text) if current else text


def code(status):
    return status + 1 if current else status


def lose(what):
    """Alters nothing but loses a metric on its way to the first server that the function starts."""

    def metric(name, value, server):
        return [] if server == 0 and name.endswith(what) else [(name, value)]

    return metric


def vifs_and_nets(document):
    for domain in document["domains"]:
        domain["nets"] += 1
        del domain["vif"][-1:]


def uuids(document):
    for domain in document["domains"]:
        domain["uuid"] = domain["uuid"] and domain["uuid"][::-1]


def networks_appear(tables):
    for row in tables[0].values():
        row.columns["NETS"] = "1"


def disks_appear(tables):
    if "files" in tables[-1]:
        tables[-1]["files"].vbds = [("Qdisk", number, [0] * 5) for number in (51712, 51728)]


def networks_are_right(tables):
    """As if xentop counted an HVM guest's card, and a VIF with a VLAN, once."""
    for name, row in tables[0].items():
        row.columns["NETS"] = {"hvm01": "1", "hvm02": "1", "web01": "2"}.get(name, row.columns["NETS"])


def answer_lost(answers):
    return answers.replace('"return"', '"event"', 1)


def hung_disks_are_sent(name, value, server):
    return [(name, value), (name.replace(".web01.", ".files."), value)] if ".web01.vbd" in name else [(name, value)]


def forged(name, value, server):
    """What the hostile name tries to forge."""
    return [(name, 1.0 if name == "xen.dom0.web01.mem_k" else value)]


numbers = itertools.count()


def names_change(name, value, server):
    """As if each poll had a guest with a new name."""
    new = [(f"xen.dom0.{next(numbers)}.mem_k", value)] if name.endswith(".Domain-0-dom0.mem_k") else []
    return [(name, value), *new]


def comes_and_goes(name, value, server):
    """The zeros of the guest that is gone are lost; CPU percentages are more than 100, and no counter falls."""
    if name.endswith(".born.mem_k"):
        return [(name, value + 1)] if value else []
    if name.endswith(".web01.cpu_sec"):
        return [(name, next(numbers))]
    kept = name.endswith(("state.paused", "node.domains"))
    return [(name, value if kept else value + 102)]


def zeros_of_domains(name, value, server):
    """A poll that fails makes a domain's metrics 0, and says that it did not."""
    if name.endswith(".poll_errors") and value:
        return [(name, value), ("xen.dom0.web01.mem_k", 0.0)]
    return [(name, 1.0 if name.endswith("xenmonitor.up") else value)]


# By name of the function that checks: where every number is not enough, or too much for what the function waits for.
FALSEHOODS = {
    "library_of_the_running_xen": Falsehood(text=lambda text: text.replace("(the running Xen's own)", "(another one)")),
    "without_a_bridge": Falsehood(document=vifs_and_nets, tables=networks_appear),
    "disks_of_qemu": Falsehood(tables=disks_appear),
    "a_hung_qemu": Falsehood(metric=hung_disks_are_sent),
    "open_vswitch": Falsehood(tables=networks_appear),
    "vlan_and_bond": Falsehood(tables=networks_are_right),
    "hvm": Falsehood(tables=networks_are_right),
    "ours_twice": Falsehood(text=answer_lost),
    "ours_and_xentop": Falsehood(text=answer_lost),
    "guests_come_and_go": Falsehood(metric=comes_and_goes),
    "uuids": Falsehood(document=uuids, metric=names_change),
    "hostile_name": Falsehood(metric=forged),
    "as_the_service": Falsehood(
        metric=lose(".web01.vbds"),
        text=lambda text: re.sub(r"NoNewPrivs:\s*1", "NoNewPrivs:\t0", text).replace("Status=0", "Status=1"),
    ),
    "as_another_user": Falsehood(metric=lose(".web01.vbds")),
    "xenstored_dies": Falsehood(metric=zeros_of_domains),
}
