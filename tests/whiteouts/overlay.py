#!/usr/bin/env python3
"""Writes the layers of each case in overlayfs's dialect, as one archive: CASE/LAYER/PATH. A deleted file is a
character device 0:0, an opaque directory has the attribute trusted.overlay.opaque.

    overlay.py CASES ARCHIVE

As container engines do it: a layer is unpacked alone, with the directories that lead to its files as the layers
below have them, and the kernel merges. Entries of a layer count whatever its whiteouts are, in any order.
"""

import io
import json
import sys
import tarfile
from urllib.parse import unquote_to_bytes

from layers import TYPES, text

OPAQUE = "SCHILY.xattr.trusted.overlay.opaque"
LINKS_MAX = 40


class Node:
    def __init__(self, kind, mode=0o755, contents=b"", target="", device=(0, 0)):
        self.kind, self.mode, self.contents, self.target, self.device = kind, mode, contents, target, device


def parts(path):
    return [part for part in path.split("/") if part not in ("", ".")]


def resolve(tree, names):
    """Where a directory's path leads when the layer's own symbolic links are followed."""
    path, left, links = (), list(names), 0
    while left:
        name = left.pop(0)
        if name == "..":
            path = path[:-1]
            continue
        node = tree.get(path + (name,))
        if node is not None and node.kind == "symlink":
            links += 1
            assert links < LINKS_MAX
            left = parts(node.target) + left
            path = () if node.target.startswith("/") else path
        else:
            path += (name,)
    return path


def remove(tree, path):
    for other in [other for other in tree if other[: len(path)] == path]:
        del tree[other]


class Layer:
    def __init__(self, below):
        self.below, self.tree, self.whiteouts, self.opaque = below, {}, set(), set()

    def apply(self, entry):
        names = parts(text(entry["path"]))
        if not names:
            return
        parent, name = resolve(self.tree, names[:-1]), names[-1]
        if name == ".wh..wh..opq":
            self.opaque.add(parent)
        elif name.startswith(".wh..wh."):
            pass
        elif name.startswith(".wh."):
            self.whiteouts.add(parent + (name[4:],))
        else:
            self.place(parent + (name,), self.node(entry))

    def node(self, entry):
        kind = entry["type"]
        if kind == "hardlink":
            target = parts(text(entry["target"]))
            path = resolve(self.tree, target[:-1]) + (target[-1],)
            if path in self.tree:
                return self.tree[path]
            # To give it another name, the kernel first copies it up under its old one.
            if path not in self.whiteouts:
                self.place(path, self.below[path])
            return self.below[path]
        device = tuple(map(int, entry.get("device", "0:0").split(":")))
        contents = entry.get("contents", "").encode()
        return Node(kind, int(entry.get("mode", "0777"), 8), contents, text(entry.get("target", "")), device)

    def place(self, path, node):
        for length in range(1, len(path)):
            self.make_directory(path[:length])
        old = self.tree.get(path)
        if old is None or old.kind != "directory" or node.kind != "directory":
            remove(self.tree, path)
        self.tree[path] = node

    def make_directory(self, path):
        known = self.tree.get(path)
        if known is None or known.kind != "directory":
            remove(self.tree, path)
            lower = self.below.get(path)
            mode = lower.mode if lower is not None and lower.kind == "directory" else 0o755
            self.tree[path] = Node("directory", mode)

    def finish(self):
        """The upper directory and what is seen of it over the layers below."""
        merged = dict(self.below)
        for path in self.opaque:
            for other in [other for other in merged if other[: len(path)] == path and other != path]:
                del merged[other]
        for path in self.whiteouts:
            remove(merged, path)
        for path in sorted(self.tree):
            node, old = self.tree[path], merged.get(path)
            if old is not None and (old.kind != "directory" or node.kind != "directory"):
                remove(merged, path)
            merged[path] = node
        for path in self.opaque:
            for length in range(1, len(path) + 1):
                self.make_directory(path[:length])
        for path in self.whiteouts:
            own = self.tree.get(path)
            if own is None:
                parent = self.tree.get(path[:-1])
                if path[:-1] == () or parent is None or parent.kind == "directory":
                    self.place(path, Node("character-device", 0))
            elif own.kind == "directory":
                self.opaque.add(path)
        for path, node in self.tree.items():
            if node.kind == "directory":
                merged.setdefault(path, node)
        return merged


def write(archive, prefix, layer):
    names = {}
    root = tarfile.TarInfo(prefix)
    root.type, root.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(root)
    for path in sorted(layer.tree):
        node = layer.tree[path]
        info = tarfile.TarInfo("/".join((prefix,) + path))
        info.type, info.mode, info.linkname = TYPES[node.kind], node.mode, node.target
        info.devmajor, info.devminor = node.device
        if path in layer.opaque:
            info.pax_headers[OPAQUE] = "y"
        if node.kind != "directory" and id(node) in names:
            info.type, info.linkname = tarfile.LNKTYPE, names[id(node)]
        names.setdefault(id(node), info.name)
        info.size = len(node.contents) if info.type == tarfile.REGTYPE else 0
        archive.addfile(info, io.BytesIO(node.contents))


def main(cases, path):
    with open(cases) as file:
        cases = json.load(file)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for number, case in enumerate(cases):
            below = {}
            for index, entries in enumerate(case["layers"]):
                layer = Layer(below)
                for entry in entries:
                    layer.apply(entry)
                below = layer.finish()
                write(archive, f"{number}/{index}", layer)


if __name__ == "__main__":
    main(*sys.argv[1:])
