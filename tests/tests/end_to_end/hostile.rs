//! Images made to do harm: each is refused with a message that names layer and entry, in bounded memory, and nothing is written.
//! The tables of single formats are in `host/image`; these go in through the front door.

use kiln_tests::{Room, tool_output};
use std::{fs, path::Path};

/// Makes a docker-archive or OCI layout with python3.
const PYTHON: &str = r#"
import hashlib, io, json, os, sys, tarfile

def layer(add):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode='w', format=tarfile.PAX_FORMAT) as tar:
        add(tar)
    return data.getvalue()

def entry(tar, name, kind=tarfile.REGTYPE, data=b'', **more):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), more.get('target', '')
    info.pax_headers = more.get('pax', {})
    tar.addfile(info, io.BytesIO(data))

def archive(path, layer, diff_id=None):
    diff_id = diff_id or 'sha256:' + hashlib.sha256(layer).hexdigest()
    config = json.dumps({'architecture': 'amd64', 'os': 'linux', 'rootfs': {'type': 'layers', 'diff_ids': [diff_id]}}).encode()
    name = hashlib.sha256(config).hexdigest() + '.json'
    manifest = json.dumps([{'Config': name, 'RepoTags': ['evil:1'], 'Layers': ['layer.tar']}]).encode()
    with tarfile.open(path, 'w') as tar:
        for member, data in [('layer.tar', layer), (name, config), ('manifest.json', manifest)]:
            entry(tar, member, data=data)

def blob(layout, data):
    digest = hashlib.sha256(data).hexdigest()
    os.makedirs(layout + '/blobs/sha256', exist_ok=True)
    open(layout + '/blobs/sha256/' + digest, 'wb').write(data)
    return {'digest': 'sha256:' + digest, 'size': len(data)}

def layout(path, descriptor):
    os.makedirs(path, exist_ok=True)
    open(path + '/oci-layout', 'w').write('{"imageLayoutVersion":"1.0.0"}')
    json.dump({'schemaVersion': 2, 'manifests': [descriptor]}, open(path + '/index.json', 'w'))

INDEX = 'application/vnd.oci.image.index.v1+json'
MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
LAYER = 'application/vnd.oci.image.layer.v1.tar'

def image(path, layer, layer_type=LAYER, **more):
    config = {'architecture': 'amd64', 'os': 'linux',
              'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + hashlib.sha256(layer).hexdigest()]}}
    config = dict(blob(path, json.dumps(config).encode()), mediaType='application/vnd.oci.image.config.v1+json')
    manifest = {'schemaVersion': 2, 'mediaType': MANIFEST, 'config': config,
                'layers': [dict(blob(path, layer), mediaType=layer_type, **more)]}
    return dict(blob(path, json.dumps(manifest).encode()), mediaType=MANIFEST)

out = sys.argv[1]
fine = layer(lambda tar: entry(tar, 'etc/file', data=b'x'))
"#;

fn make(out: &Path, script: &str) {
    let script = format!("{PYTHON}\n{script}");
    tool_output("python3", &["-c".as_ref(), script.as_ref(), out.as_os_str()]);
}

/// Most of a kiln's memory, in KiB.
const MEMORY_MAX: u64 = 1 << 20;

/// What kiln says of an image, and its peak of memory; no output is there, and nothing half written.
fn refusal(script: &str) -> (String, u64) {
    let room = Room::new();
    room.kiln().args(["cache", "du"]).run().succeeds();
    let evil = room.path("evil");
    make(&evil, script);
    // So that the image's files are laid over one another.
    room.write("child/tree/file", "x");
    let build_file = format!("from = '{}'\ncontents = ['tree']\n", evil.display());
    let context = room.context("child", None, &build_file);
    let peak = room.path("peak");
    let peak_of = ["/usr/bin/env", "time", "-f", "%M", "-o", peak.to_str().expect("plain")];
    let outcome = room.build(&context, "image.tar", "").through(peak_of).run().fails();
    let said = outcome.stderr.clone();
    let kib = fs::read_to_string(&peak).expect("time wrote it");
    outcome.leaves_no_process();
    // What is under its own digest may stay in the cache, though it cannot be laid over anything.
    let left = |directory: &Path| fs::read_dir(directory).expect("it is there").count();
    assert!(
        !room.path("image.tar").exists()
            && left(&room.temporary()) == 0
            && left(&room.cache().join("tmp")) == 0
    );
    let kib = kib.lines().last().and_then(|line| line.trim().parse().ok()).expect("a number");
    (said, kib)
}

#[test]
fn what_is_made_to_do_harm_is_refused() {
    for (name, script, expected) in [
        (
            "path traversal",
            "archive(out, layer(lambda tar: entry(tar, '../../etc/passwd')))",
            &["layer", "../../etc/passwd"][..],
        ),
        (
            "traversal inside",
            "archive(out, layer(lambda tar: entry(tar, 'a/../../b')))",
            &["layer", "a/../../b"],
        ),
        (
            "a link to nothing",
            "archive(out, layer(lambda tar: entry(tar, 'a', tarfile.LNKTYPE, target='/etc/passwd')))",
            &["layer", "etc/passwd", "does not exist"],
        ),
        (
            "a loop of links",
            "archive(out, layer(lambda tar: (entry(tar, 'a', tarfile.SYMTYPE, target='a'), entry(tar, 'a/b'))))",
            &["layer", "a/b"],
        ),
        (
            "a size beyond the archive",
            "data = bytearray(fine); data[124:136] = b'77777777777\\0'; s = sum(data[:148]) + 8 * 32 + sum(data[156:512]); \
             data[148:156] = b'%06o\\0 ' % s; archive(out, bytes(data))",
            &["layer"],
        ),
        ("cut short", "archive(out, fine[:700])", &["layer"]),
        ("no tar", "archive(out, b'MZ' * 2000)", &["layer"]),
        (
            "a PAX bomb",
            "archive(out, layer(lambda tar: entry(tar, 'a', pax={'comment': 'x' * (32 << 20)})))",
            &["layer", "byte"],
        ),
        ("a wrong diff ID", "archive(out, fine, 'sha256:' + '0' * 64)", &["digest mismatch", "layer"]),
        (
            "an overlay redirect",
            "archive(out, layer(lambda tar: entry(tar, 'd', tarfile.DIRTYPE, pax={'SCHILY.xattr.trusted.overlay.redirect': '/etc'})))",
            &["layer", "redirect"],
        ),
        (
            "an index in itself",
            "d = dict(digest='sha256:' + hashlib.sha256(b'loop').hexdigest(), size=1, mediaType=INDEX); layout(out, d); \
             blob(out, b'{}')",
            &["sha256:"],
        ),
        (
            "a thousand indexes in one another",
            "d = image(out, fine)\nfor _ in range(1000): d = dict(blob(out, json.dumps({'schemaVersion': 2, 'manifests': [d]}).encode()), mediaType=INDEX)\nlayout(out, d)",
            &["indexes in indexes"],
        ),
        (
            "a foreign layer",
            "layout(out, image(out, fine, 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', urls=['https://example.org/']))",
            &["layer", "foreign"],
        ),
        (
            "a manifest that lies about sizes",
            "d = image(out, fine); d['size'] += 1; layout(out, d)",
            &["sha256:"],
        ),
        (
            "a layer that is not the manifest's",
            "d = image(out, fine)\nname = out + '/blobs/sha256/' + hashlib.sha256(fine).hexdigest()\n\
             open(name, 'wb').write(fine.replace(b'x', b'y'))\nlayout(out, d)",
            &["layer", "digest mismatch"],
        ),
        (
            "a manifest that is two things",
            "b = blob(out, json.dumps({'schemaVersion': 2, 'manifests': [], 'layers': [], 'config': {}}).encode()); \
             layout(out, dict(b, mediaType=MANIFEST))",
            &["both"],
        ),
        (
            "names that steer a terminal",
            "archive(out, layer(lambda tar: entry(tar, '../\\x1b[2J')))",
            &["layer"],
        ),
    ] {
        let (said, kib) = refusal(script);
        for words in expected {
            assert!(said.contains(words), "{name}: {words:?} is not in {said:?}");
        }
        assert!(!said.contains('\u{1b}'), "{name}: {said:?}");
        assert!(kib < MEMORY_MAX, "{name}: {kib} KiB");
    }
}

/// More entries than a layer may have: refused before memory runs out.
#[test]
fn ten_million_entries_are_refused() {
    let script = r"
import gzip
header = layer(lambda tar: entry(tar, 'a'))[:512]
member = gzip.compress(header * 100000)
with open(out, 'wb') as file: file.write(member * 100)
";
    let room = Room::new();
    let evil = room.path("evil");
    make(&evil, script);
    room.kiln().args(["cache", "du"]).run().succeeds();
    let context = room.context("child", None, &format!("from = 'rootfs:{}'\n", evil.display()));
    let peak = room.path("peak");
    let peak_of = ["/usr/bin/env", "time", "-f", "%M", "-o", peak.to_str().expect("plain")];
    let outcome = room.build(&context, "image.tar", "").through(peak_of).run().fails();
    let kib = fs::read_to_string(&peak).expect("time wrote it");
    let kib: u64 = kib.lines().last().and_then(|line| line.trim().parse().ok()).expect("a number");
    assert!(kib < MEMORY_MAX, "{kib} KiB");
    assert!(outcome.stderr.contains("entries"), "{}", outcome.stderr);
}
