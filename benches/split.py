"""The usual script: reads `xentop -b -f`, splits its text and sends some columns to statsd."""

import sys

import statsd

client = statsd.StatsClient(sys.argv[1], int(sys.argv[2]), prefix="XenVms.h")
COLUMNS = {
    2: "CPU_sec", 3: "CPU_percent", 4: "MEM_k", 5: "MEM_percent", 8: "VCPUs", 9: "Networks", 10: "NET-TX_k",
    11: "NET-RX_k", 12: "Block-Devices", 14: "VBD_Read", 15: "VBD_Write", 16: "VBD_Read-Sectors",
    17: "VBD_Write-Sectors",
}
for line in sys.stdin:
    fields = line.split()
    if len(fields) < 19 or fields[0] == "NAME":
        continue
    with client.pipeline() as pipe:
        for place, name in COLUMNS.items():
            try:
                pipe.gauge(f"{name}.{fields[0].replace('.', '-')}", float(fields[place]))
            except ValueError:
                pass
