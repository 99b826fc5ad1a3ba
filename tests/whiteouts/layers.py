#!/usr/bin/env python3
"""Writes the layers of each case: DIRECTORY/NUMBER/layer-N.tar, and beside them an OCI image layout of
them, DIRECTORY/NUMBER/image, with the tag `latest`. NUMBER counts the cases of cases.json from 0.

    layers.py CASES DIRECTORY

A case is {name, layers, tree, differs}. Layers are lists of the archive's entries in its order, paths as
the archive spells them: {path, type, mode, contents | target | device}. `tree` is what the layers show,
sorted by the names of each path; of a file with several names the first is the file, the others hard
links to it. Directories that no entry has are mode 0755. In paths and targets, %XX is a byte. `differs`
names programs that show something else, and why.
"""

import hashlib
import io
import json
import os
import sys
import tarfile
from urllib.parse import unquote_to_bytes

TYPES = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "character-device": tarfile.CHRTYPE,
    "block-device": tarfile.BLKTYPE,
}


def text(encoded):
    """As tarfile wants names that need not be UTF-8."""
    return unquote_to_bytes(encoded).decode("utf-8", "surrogateescape")


def member(entry):
    info = tarfile.TarInfo(text(entry["path"]))
    info.type = TYPES[entry["type"]]
    info.mode = int(entry.get("mode", "0777"), 8)
    info.linkname = text(entry.get("target", ""))
    info.devmajor, info.devminor = map(int, entry.get("device", "0:0").split(":"))
    data = entry.get("contents", "").encode()
    info.size = len(data)
    return info, io.BytesIO(data)


def layer(entries):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for entry in entries:
            tar.addfile(*member(entry))
    return archive.getvalue()


def write_json(path, value):
    with open(path, "w") as file:
        json.dump(value, file)


class Layout:
    """An OCI image layout with one image."""

    def __init__(self, directory):
        self.directory = directory
        os.makedirs(f"{directory}/blobs/sha256")

    def blob(self, kind, data):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{self.directory}/blobs/sha256/{digest}", "wb") as file:
            file.write(data)
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def image(self, layers):
        descriptors = [self.blob("layer.v1.tar", layer) for layer in layers]
        diff_ids = [descriptor["digest"] for descriptor in descriptors]
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        config = self.blob("config.v1+json", json.dumps(config).encode())
        manifest = {"schemaVersion": 2, "config": config, "layers": descriptors}
        manifest = self.blob("manifest.v1+json", json.dumps(manifest).encode())
        manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
        write_json(f"{self.directory}/index.json", {"schemaVersion": 2, "manifests": [manifest]})
        write_json(f"{self.directory}/oci-layout", {"imageLayoutVersion": "1.0.0"})


def main(cases, directory):
    with open(cases) as file:
        cases = json.load(file)
    for number, case in enumerate(cases):
        here = f"{directory}/{number}"
        layers = [layer(entries) for entries in case["layers"]]
        Layout(f"{here}/image").image(layers)
        for index, data in enumerate(layers):
            with open(f"{here}/layer-{index}.tar", "wb") as file:
                file.write(data)


if __name__ == "__main__":
    main(*sys.argv[1:])
