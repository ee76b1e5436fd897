"""patient.py LIBRARY ... - gives QEMU three minutes to answer xl, instead of ten seconds, in copies of libxenlight.

libxl destroys a guest whose QEMU does not answer within LIBXL_QMP_CMD_TIMEOUT. An emulated QEMU on a busy machine needs
longer. The constant is an argument of libxl__ev_time_register_rel, in milliseconds: `mov $10000, %ecx`. Other time-outs
of ten seconds in libxl (its helper's start, a domain's death) become three minutes too.
"""

import os
import sys

TEN_SECONDS, THREE_MINUTES = (b"\xb9" + milliseconds.to_bytes(4, "little") for milliseconds in (10_000, 180_000))
done = set()
for library in map(os.path.realpath, sys.argv[1:]):
    if library in done:
        continue
    done.add(library)
    with open(library, "r+b") as file:
        code = file.read()
        found = code.count(TEN_SECONDS)
        if not found:
            sys.exit(f"{library} has no time-out of ten seconds")
        file.seek(0)
        file.write(code.replace(TEN_SECONDS, THREE_MINUTES))
    print(f"{os.path.basename(library)}: {found} time-outs of ten seconds are three minutes now")
