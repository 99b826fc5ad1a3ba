//! Images to and from Debian's docker-registry on loopback.

use kiln_image::compress::Compression;
use kiln_image::config::ImageConfig;
use kiln_image::manifest::{Annotations, Content, Document, Platform, media_type};
use kiln_image::reference::ImageReference;
use kiln_registry::{Client, Settings};
use kiln_store::Store;
use kiln_test_registry::{Action, Proxy, Registry, Rule};
use kiln_transport::{
    Attachment, CopyOptions, Event, ImageAnnotations, Observer, OutputImage, OutputSpec, Transport,
};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Counts blobs that passed.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Observer for Counter {
    fn event(&self, event: Event<'_>) {
        if let Event::Blob { done, size, .. } = event
            && done == size
        {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Room {
    directory: tempfile::TempDir,
    store: Store,
    client: Client,
    counter: Counter,
}

impl Room {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let client = Client::new(Settings {
            tls_verify: false,
            retries: 2,
            backoff: Duration::from_millis(5),
            ..Settings::default()
        })
        .unwrap();
        Self { directory, store, client, counter: Counter::default() }
    }

    fn transport(&self) -> Transport<'_> {
        let threads = NonZeroUsize::new(3).unwrap();
        Transport { store: &self.store, registry: &self.client, threads, observer: &self.counter }
    }

    fn image(&self, architecture: &str) -> OutputImage {
        let layers = ["lower", "upper", architecture].map(|content| {
            let mut new = self.store.new_layer(&[Compression::GZIP], NonZeroUsize::MIN).unwrap();
            new.write_all(&tar(&self.directory.path().join("tree"), content)).unwrap();
            new.finish().unwrap()
        });
        let mut config = ImageConfig::scratch(architecture, "linux");
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let json = config.to_json();
        let image = self.store.keep_image(config, json, layers.to_vec()).unwrap();
        OutputImage {
            image,
            names: Vec::new(),
            annotations: ImageAnnotations::default(),
            attachments: Vec::new(),
        }
    }
}

fn tar(root: &Path, content: &str) -> Vec<u8> {
    std::fs::create_dir_all(root).unwrap();
    std::fs::write(root.join(content), content).unwrap();
    let bytes = output(
        Command::new("tar")
            .args(["--create", "--mtime=@0", "--owner=0", "--group=0", "--file=-", "--directory"])
            .arg(root)
            .arg("."),
    );
    std::fs::remove_dir_all(root).unwrap();
    bytes
}

/// Runs a program that has to be installed and to succeed.
fn output(command: &mut Command) -> Vec<u8> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {name} (is it installed?): {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn place(address: &str, name: &str) -> String {
    format!("docker://{address}/{name}")
}

fn spec(dest: &str) -> OutputSpec {
    let dest = dest.parse().unwrap();
    OutputSpec { dest, compression: None, force_compression: false, dialect: None }
}

fn skopeo(from: &str, to: &str) {
    output(
        Command::new("skopeo")
            // Where it looks for passwords; what it looks for otherwise may be root's and closed.
            .env("XDG_RUNTIME_DIR", std::env::temp_dir())
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
            ])
            .args([from, to]),
    );
}

#[test]
fn what_is_pushed_is_pulled() {
    let registry = Registry::plain();
    let room = Room::new();
    let image = room.image("amd64");
    let reference = place(&registry.address(), "some/thing:1");
    let written = room.transport().write(std::slice::from_ref(&image), &spec(&reference)).unwrap();
    // By skopeo, into a directory and back under another name.
    let dir = format!("dir:{}", room.directory.path().join("dir").display());
    skopeo(&reference, &dir);
    let other = place(&registry.address(), "other/thing:2");
    skopeo(&dir, &other);
    for reference in [&reference, &dir, &other] {
        let fresh = Room::new();
        let read = fresh.transport().import(&reference.parse().unwrap(), &Platform::default()).unwrap();
        assert_eq!(read.image.image_id, image.image.image_id, "{reference}");
        assert_eq!(read.image.manifest.as_ref().map(|manifest| manifest.digest), written.digest);
        let fetched = fresh.counter.0.swap(0, Ordering::Relaxed);
        assert_eq!(fetched, 3, "{reference}");
        // Again: nothing but the manifest is fetched.
        fresh.transport().import(&reference.parse().unwrap(), &Platform::default()).unwrap();
        assert_eq!(fresh.counter.0.load(Ordering::Relaxed), 0);
    }
    // By digest.
    let pinned = format!("{}@{}", place(&registry.address(), "some/thing"), written.digest.unwrap());
    let read = Room::new().transport().import(&pinned.parse().unwrap(), &Platform::default()).unwrap();
    assert_eq!(read.image.image_id, image.image.image_id);
}

#[test]
fn several_platforms_share_a_tag() {
    let registry = Registry::plain();
    let room = Room::new();
    let images = [room.image("amd64"), room.image("arm64")];
    let reference = place(&registry.address(), "multi:1");
    let written = room.transport().write(&images, &spec(&reference)).unwrap();
    let options = CopyOptions { all: true, preserve_digests: true, ..CopyOptions::default() };
    let copied = place(&registry.address(), "copied:1");
    let source: ImageReference = reference.parse().unwrap();
    let again = Room::new();
    let copy = again.transport().copy(&[source], &copied.parse().unwrap(), &options).unwrap();
    assert_eq!(copy.digest, written.digest);
    for image in &images {
        let platform = Platform::of(&image.image.config);
        for reference in [&reference, &copied] {
            let read = again.transport().import(&reference.parse().unwrap(), &platform).unwrap();
            assert_eq!(read.image.image_id, image.image.image_id);
        }
    }
}

#[test]
fn what_is_said_about_an_image_is_pushed_with_it() {
    let registry = Registry::plain();
    let room = Room::new();
    let mut image = room.image("amd64");
    image.attachments.push(Attachment {
        artifact_type: "application/spdx+json".into(),
        bytes: b"{}".to_vec(),
        annotations: Annotations::new(),
        placeholder: None,
    });
    let reference = place(&registry.address(), "said:1");
    room.transport().write(&[image], &spec(&reference)).unwrap();
    let options = CopyOptions { referrers: true, ..CopyOptions::default() };
    let layout = format!("oci:{}", room.directory.path().join("layout").display());
    room.transport().copy(&[reference.parse().unwrap()], &layout.parse().unwrap(), &options).unwrap();
    let index = std::fs::read_to_string(room.directory.path().join("layout/index.json")).unwrap();
    assert!(index.contains("application/spdx+json"), "{index}");
    let read = Room::new().transport().import(&reference.parse().unwrap(), &Platform::default()).unwrap();
    assert_eq!(read.image.layers.len(), 3);
}

/// The layers of a base that came from the same registry are not sent again.
#[test]
fn known_layers_are_mounted() {
    let registry = Registry::plain();
    let proxy = Proxy::start(&registry.address(), []);
    let room = Room::new();
    let base = place(&proxy.address(), "base:1");
    let image = room.image("amd64");
    room.transport().write(std::slice::from_ref(&image), &spec(&base)).unwrap();
    let sent = proxy.count("PUT /v2/base/blobs/");
    assert_eq!(sent, 4);
    let other = Room::new();
    let read = other.transport().import(&base.parse().unwrap(), &Platform::default()).unwrap();
    let child = OutputImage { image: read.image, ..image.clone() };
    other.transport().write(&[child], &spec(&place(&proxy.address(), "child:1"))).unwrap();
    assert_eq!(proxy.count("PUT /v2/child/blobs/"), 0);
    // And from one repository to the other without any of it.
    let copy = place(&proxy.address(), "copy:1").parse().unwrap();
    let fetched = proxy.count("GET /v2/base/blobs/");
    Room::new().transport().copy(&[base.parse().unwrap()], &copy, &CopyOptions::default()).unwrap();
    // The configuration only, to look at.
    assert_eq!(proxy.count("GET /v2/base/blobs/"), fetched + 1);
}

#[test]
fn what_the_network_does_is_mended_or_refused() {
    let registry = Registry::plain();
    let room = Room::new();
    let image = room.image("amd64");
    let reference = place(&registry.address(), "app:1");
    room.transport().write(std::slice::from_ref(&image), &spec(&reference)).unwrap();
    let unavailable = || Action::Answer { status: 503, headers: Vec::new(), body: String::new() };
    for (action, times, mended) in [
        (Action::Cut(50), 1, true),
        (unavailable(), 1, true),
        (Action::Flip(20), 99, false),
        (Action::Length(-3), 99, false),
        (unavailable(), 99, false),
    ] {
        let shown = format!("{action:?}");
        let proxy = Proxy::start(&registry.address(), [Rule::new("GET", "/blobs/", times, action)]);
        let fresh = Room::new();
        let reference = place(&proxy.address(), "app:1").parse().unwrap();
        let read = fresh.transport().import(&reference, &Platform::default());
        assert_eq!(read.is_ok(), mended, "{shown}: {read:?}");
        if !mended {
            assert!(fresh.store.du().unwrap().iter().all(|usage| usage.count == 0), "{shown}");
        }
    }
}

/// A manifest as registries still serve it of images from before docker 1.10, by the proxy: Debian's registry does not sign them
/// unless told to.
#[test]
fn an_image_of_schema_1_is_pulled() {
    let registry = Registry::plain();
    let room = Room::new();
    let image = room.image("amd64");
    let pushed = place(&registry.address(), "old:new");
    room.transport().write(std::slice::from_ref(&image), &spec(&pushed)).unwrap();
    let manifest = room.client.manifest(&format!("{}/old:new", registry.address()).parse().unwrap()).unwrap();
    let manifest = Document::parse(manifest.bytes, None).unwrap();
    let Content::Manifest(manifest) = manifest.content else { panic!("an index") };
    let layers: Vec<String> =
        manifest.layers.iter().rev().map(|layer| format!(r#"{{"blobSum":"{}"}}"#, layer.digest)).collect();
    let history = [r#"{"v1Compatibility":"{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"/old\"]}}"}"#;
        3];
    let body = format!(
        r#"{{"schemaVersion":1,"name":"old","tag":"1","fsLayers":[{}],"history":[{}]}}"#,
        layers.join(","),
        history.join(",")
    );
    let headers = vec![format!("Content-Type: {}", media_type::DOCKER_SCHEMA_1[0])];
    let answer = Action::Answer { status: 200, headers, body };
    let proxy = Proxy::start(&registry.address(), [Rule::new("GET", "/manifests/1", 9, answer)]);
    let reference: ImageReference = place(&proxy.address(), "old:1").parse().unwrap();
    let fresh = Room::new();
    let read = fresh.transport().import(&reference, &Platform::default()).unwrap();
    assert_eq!(read.image.config.rootfs.diff_ids, image.image.config.rootfs.diff_ids);
    assert_eq!(read.image.config.config.cmd, Some(vec!["/old".to_owned()]));
    let copied = format!("oci:{}:x", fresh.directory.path().join("layout").display());
    fresh.transport().copy(&[reference], &copied.parse().unwrap(), &CopyOptions::default()).unwrap();
    // One that lies about a layer.
    let flipped = Proxy::start(&proxy.address(), [Rule::new("GET", "/blobs/", 1, Action::Flip(40))]);
    let reference: ImageReference = place(&flipped.address(), "old:1").parse().unwrap();
    let error = Room::new().transport().import(&reference, &Platform::default()).unwrap_err();
    assert!(error.is_digest_mismatch() || error.is_corrupt(), "{error}");
}
