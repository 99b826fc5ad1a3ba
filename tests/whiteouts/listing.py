#!/usr/bin/env python3
"""Prints as JSON what is in an archive of a whole root: a list of {path, type, mode, contents | target | device}, as the
trees of cases.json. With --cases, the archive holds a directory for each case, and a list of lists is printed.

    listing.py [--cases] ARCHIVE
"""

import json
import sys
import tarfile
from urllib.parse import quote_from_bytes

from layers import TYPES

NAMES = {kind: name for name, kind in TYPES.items()}
SAFE = "".join(chr(byte) for byte in range(33, 127) if chr(byte) != "%")


def encoded(name):
    return quote_from_bytes(name.encode("utf-8", "surrogateescape"), safe=SAFE)


def parts(name):
    return tuple(part for part in name.split("/") if part not in ("", "."))


def show(archive, member, names):
    entry = {"type": NAMES[member.type]}
    if member.type == tarfile.LNKTYPE:
        entry["target"] = names(member.linkname)
        return entry
    if member.type == tarfile.SYMTYPE:
        entry["target"] = encoded(member.linkname)
        return entry
    entry["mode"] = f"{member.mode & 0o7777:04o}"
    if member.type == tarfile.REGTYPE:
        entry["contents"] = archive.extractfile(member).read().decode()
    elif member.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        entry["device"] = f"{member.devmajor}:{member.devminor}"
    return entry


def tree(found):
    """Sorted by the names of each path; the first name of a file is the file, the others are hard links to it."""
    groups = {}
    for path, entry in found.items():
        first = path
        if entry["type"] == "hardlink":
            first = tuple(entry["target"].split("/"))
        groups.setdefault(first, []).append(path)
    listing = []
    for first, paths in groups.items():
        paths.sort()
        listing.append((paths[0], found[first]))
        for path in paths[1:]:
            listing.append((path, {"type": "hardlink", "target": "/".join(paths[0])}))
    return [{"path": "/".join(path), **entry} for path, entry in sorted(listing, key=lambda item: item[0])]


def main(arguments):
    split = arguments[0] == "--cases"
    cases = {}
    with tarfile.open(arguments[-1], errors="surrogateescape") as archive:
        for member in archive:
            path = parts(member.name)
            case = int(path[0]) if split and path else 0
            path = path[1:] if split else path
            of_case = cases.setdefault(case, {})
            if path:
                depth = 1 if split else 0
                names = lambda name: "/".join(map(encoded, parts(name)[depth:]))
                of_case[tuple(map(encoded, path))] = show(archive, member, names)
    trees = {number: tree(found) for number, found in cases.items()}
    print(json.dumps([trees[number] for number in sorted(trees)] if split else trees.get(0, [])))


if __name__ == "__main__":
    main(sys.argv[1:])
