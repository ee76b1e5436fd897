"""vmlinux.py VMLINUZ VMLINUX - decompresses a kernel for x86, for Xen's and QEMU's loaders."""

import lzma
import struct
import subprocess
import sys

with open(sys.argv[1], "rb") as file:
    image = file.read()
# Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length. The decompressed size follows the stream.
start = (image[0x1F1] + 1) * 512 + struct.unpack_from("<I", image, 0x248)[0]
payload = image[start : start + struct.unpack_from("<I", image, 0x24C)[0]]
if payload[:6] == b"\xfd7zXZ\0":
    kernel = lzma.LZMADecompressor().decompress(payload)
elif payload[:4] == b"\x28\xb5\x2f\xfd":
    kernel = subprocess.run(["zstd", "-dcq"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
else:
    sys.exit(f"the kernel is compressed in an unknown way: {payload[:6].hex()}")
if kernel[:4] != b"\x7fELF":
    sys.exit("the kernel is not an ELF file")
with open(sys.argv[2], "wb") as file:
    file.write(kernel)
