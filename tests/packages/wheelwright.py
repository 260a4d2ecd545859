"""Writes a wheel with one module, as a build backend without any dependency would."""

import base64
import hashlib
import os
import zipfile


def write_wheel(directory, name, version, tag="py3-none-any", extension=None, more=()):
    """Write the wheel, with the bytes of a native *extension* if given; return its file name.

    more: further files, path and content.
    """
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": b"ANSWER = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: wheelwright\n"
        f"Root-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    files.update(more)
    if extension:
        files[f"_{module}.so"] = extension
    record = "".join(f"{path},{sha256(content)},{len(content)}\n" for path, content in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    filename = f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(os.path.join(directory, filename), "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
    return filename


def sha256(content):
    digest = hashlib.sha256(content).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
