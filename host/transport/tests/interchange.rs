//! Images between kiln, skopeo and umoci, in every form that needs no registry.

use kiln_image::compress::{Compression, piece};
use kiln_image::config::ImageConfig;
use kiln_image::digest::Digest;
use kiln_image::manifest::{Annotations, Descriptor, Dialect, Index, Manifest, Platform, media_type};
use kiln_image::reference::ImageReference;
use kiln_registry::{Client, Settings};
use kiln_store::Store;
use kiln_transport::{
    Attachment, CopyOptions, Error, Event, ImageAnnotations, Imported, Observer, OutputImage, OutputSpec,
    Transport, Written,
};
use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// A directory for files, with a store and a client that is never used.
struct Room {
    directory: tempfile::TempDir,
    store: Store,
    client: Client,
}

impl Room {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Self { directory, store, client: Client::new(Settings::default()).unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn transport(&self) -> Transport<'_> {
        let threads = NonZeroUsize::new(2).unwrap();
        Transport { store: &self.store, registry: &self.client, threads, observer: &Silent }
    }

    /// `oci:name` as a reference to the file or directory of that name here.
    fn reference(&self, text: &str) -> ImageReference {
        let text = match text.split_once(':') {
            Some((transport, path)) => format!("{transport}:{}", self.path(path).display()),
            None => self.path(text).display().to_string(),
        };
        text.parse().unwrap()
    }

    fn import(&self, text: &str) -> Result<Imported, Error> {
        self.transport().import(&self.reference(text), &Platform::default())
    }

    fn spec(&self, dest: &str) -> OutputSpec {
        OutputSpec { dest: self.reference(dest), compression: None, force_compression: false, dialect: None }
    }

    fn write(&self, images: &[OutputImage], dest: &str) -> Result<Written, Error> {
        self.transport().write(images, &self.spec(dest))
    }

    fn copy(&self, source: &str, dest: &str, options: &CopyOptions) -> Result<Written, Error> {
        self.transport().copy(&[self.reference(source)], &self.reference(dest), options)
    }

    /// Two layers, the upper with a whiteout.
    fn image(&self, architecture: &str) -> OutputImage {
        let layers = [tar(&self.path("tree"), &[("etc/a", "1"), ("etc/b", architecture)]), {
            tar(&self.path("tree"), &[("etc/.wh.a", ""), ("usr/c", "3")])
        }];
        let layers = layers.map(|tar| {
            let mut new = self.store.new_layer(&[Compression::GZIP], NonZeroUsize::MIN).unwrap();
            new.write_all(&tar).unwrap();
            new.finish().unwrap()
        });
        let mut config = ImageConfig::scratch(architecture, "linux");
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let json = config.to_json();
        let image = self.store.keep_image(config, json, layers.to_vec()).unwrap();
        let names = vec!["example.org/some/thing:1".parse().unwrap()];
        OutputImage { image, names, annotations: ImageAnnotations::default(), attachments: Vec::new() }
    }
}

fn tar(root: &Path, files: &[(&str, &str)]) -> Vec<u8> {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let bytes = output(
        Command::new("tar")
            .args([
                "--create",
                "--sort=name",
                "--mtime=@0",
                "--owner=0",
                "--group=0",
                "--file=-",
                "--directory",
            ])
            .arg(root)
            .arg("."),
    );
    fs::remove_dir_all(root).unwrap();
    bytes
}

/// Runs a program that has to be installed and to succeed.
fn output(command: &mut Command) -> Vec<u8> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {name} (is it installed?): {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

impl Room {
    fn skopeo_copy(&self, from: &str, to: &str) {
        let reference = |text: &str| {
            let (transport, path) = text.split_once(':').unwrap();
            format!("{transport}:{}", self.path(path).display())
        };
        output(
            Command::new("skopeo")
                .args(["--insecure-policy", "copy", "--quiet"])
                .args([reference(from), reference(to)]),
        );
    }

    fn skopeo_layers(&self, text: &str) -> usize {
        let (transport, path) = text.split_once(':').unwrap();
        let reference = format!("{transport}:{}", self.path(path).display());
        let json = output(Command::new("skopeo").args(["inspect", "--raw", &reference]));
        let manifest: serde_json::Value = serde_json::from_slice(&json).unwrap();
        manifest["layers"].as_array().unwrap().len()
    }
}

/// What kiln wrote goes through every form that skopeo knows, and comes back as the same image.
#[test]
fn skopeo_reads_what_kiln_writes_and_the_reverse() {
    let room = Room::new();
    let image = room.image("amd64");
    room.write(std::slice::from_ref(&image), "docker-archive:a.tar").unwrap();
    room.write(std::slice::from_ref(&image), "oci:layout:tag").unwrap();
    room.write(std::slice::from_ref(&image), "oci-archive:layout.tar:tag").unwrap();
    room.write(std::slice::from_ref(&image), "dir:dir").unwrap();
    assert_eq!(room.skopeo_layers("oci:layout:tag"), 2);
    assert_eq!(room.skopeo_layers("oci-archive:layout.tar:tag"), 2);
    assert_eq!(room.skopeo_layers("dir:dir"), 2);
    let docker = room.import("docker-archive:a.tar").unwrap();
    assert_eq!((docker.image.image_id, &docker.names), (image.image.image_id, &image.names));
    for (number, from) in
        ["docker-archive:a.tar", "oci:layout:tag", "oci-archive:layout.tar:tag", "dir:dir"].iter().enumerate()
    {
        for to in ["oci:s-oci", "oci-archive:s-oci-archive", "dir:s-dir", "docker-archive:s-docker"] {
            let to = format!("{to}{number}");
            let to_named = if to.starts_with("docker-archive") { format!("{to}:x/y:1") } else { to.clone() };
            room.skopeo_copy(from, &to_named);
            let fresh = Room::new();
            let reference = room.reference(&to);
            let read = fresh.transport().import(&reference, &Platform::default()).unwrap();
            let diff_ids = |image: &kiln_store::StoredImage| image.config.rootfs.diff_ids.clone();
            assert_eq!(diff_ids(&read.image), diff_ids(&image.image), "{from} {to}");
            // Without a transport: by what is there.
            let bare = room.path(to.split_once(':').unwrap().1);
            let bare = bare.to_str().unwrap().parse().unwrap();
            let detected = fresh.transport().import(&bare, &Platform::default()).unwrap();
            assert_eq!(detected.image.image_id, read.image.image_id, "{from} {to}");
        }
    }
}

#[test]
fn umoci_unpacks_what_kiln_writes() {
    let room = Room::new();
    room.write(&[room.image("amd64")], "oci:layout:tag").unwrap();
    let bundle = room.path("bundle");
    let image = format!("{}:tag", room.path("layout").display());
    output(Command::new("umoci").args(["unpack", "--rootless", "--image", &image]).arg(&bundle));
    assert!(!bundle.join("rootfs/etc/a").exists());
    assert_eq!(fs::read(bundle.join("rootfs/usr/c")).unwrap(), b"3");
}

#[test]
fn the_same_images_give_the_same_bytes() {
    let write = || {
        let room = Room::new();
        let mut image = room.image("amd64");
        image.annotations.manifest.insert("org.example.a".into(), "b".into());
        image.attachments.push(Attachment {
            artifact_type: "application/spdx+json".into(),
            bytes: b"{}".to_vec(),
            annotations: Annotations::new(),
            placeholder: None,
        });
        room.write(&[image], "oci-archive:a.tar").unwrap();
        let plain = room.image("amd64");
        room.write(std::slice::from_ref(&plain), "docker-archive:d.tar.gz").unwrap();
        room.write(&[plain], "rootfs:r.tar.zst").unwrap();
        ["a.tar", "d.tar.gz", "r.tar.zst"].map(|name| Digest::of(&fs::read(room.path(name)).unwrap()))
    };
    assert_eq!(write(), write());
}

#[test]
fn images_of_several_platforms_share_a_tag() {
    let room = Room::new();
    let images = [room.image("amd64"), room.image("arm64")];
    for dest in ["oci:layout:tag", "oci-archive:a.tar:tag", "oci:names", "dir:dir"] {
        let written = room.write(&images, dest).unwrap();
        assert!(written.digest.is_some(), "{dest}");
        for image in &images {
            let platform = Platform::of(&image.image.config);
            let read = room.transport().import(&room.reference(dest), &platform).unwrap();
            assert_eq!(read.image.image_id, image.image.image_id, "{dest}");
        }
        assert_eq!(room.transport().import_all(&room.reference(dest)).unwrap().len(), 2);
        let other =
            room.transport().import(&room.reference(dest), &Platform::new("linux", "s390x")).unwrap_err();
        assert!(other.is_usage() && other.to_string().contains("only linux/amd64, linux/arm64"), "{other}");
    }
    let twice = room.write(&[images[0].clone(), images[0].clone()], "oci:layout:tag").unwrap_err();
    assert!(twice.is_usage());
}

#[test]
fn a_layout_keeps_its_other_tags() {
    let room = Room::new();
    let (first, second) = (room.image("amd64"), room.image("arm64"));
    for (image, tag) in [(&first, "a"), (&first, "b"), (&second, "a")] {
        room.write(std::slice::from_ref(image), &format!("oci:layout:{tag}")).unwrap();
    }
    let arm = Platform::new("linux", "arm64");
    let a = room.transport().import(&room.reference("oci:layout:a"), &arm).unwrap();
    let b = room.import("oci:layout:b").unwrap();
    assert_eq!((a.image.image_id, b.image.image_id), (second.image.image_id, first.image.image_id));
    let mut third = room.image("amd64");
    third.image.config.author = Some("somebody".to_owned());
    let json = third.image.config.to_json();
    third.image = room.store.keep_image(third.image.config, json, third.image.layers).unwrap();
    third.names = Vec::new();
    room.write(&[third], "oci:layout").unwrap();
    let several = room.import("oci:layout").unwrap_err().to_string();
    assert!(several.ends_with("holds 2 images; choose one by its tag, one of b"), "{several}");
    let error = room.import("oci:layout:c").unwrap_err();
    assert!(
        error.is_usage() && error.to_string().ends_with("has no image tagged c; its tags are b, a"),
        "{error}"
    );
}

/// What skopeo made stays as it is, byte for byte, through kiln's hands.
#[test]
fn copies_keep_digests_where_nothing_asks_for_a_change() {
    let room = Room::new();
    room.write(&[room.image("amd64")], "docker-archive:a.tar").unwrap();
    room.skopeo_copy("docker-archive:a.tar", "oci:start:tag");
    let start = room.import("oci:start:tag").unwrap();
    let keep = CopyOptions { preserve_digests: true, ..CopyOptions::default() };
    let mut from = "oci:start:tag".to_owned();
    for to in ["dir:one", "oci-archive:two.tar:t", "oci:three:t", "dir:four"] {
        let written = room.copy(&from, to, &keep).unwrap();
        assert_eq!(written.digest, start.image.manifest.as_ref().map(|manifest| manifest.digest), "{to}");
        from = to.to_owned();
    }
    // By way of the store, too.
    let again = OutputImage {
        image: start.image.clone(),
        names: Vec::new(),
        annotations: ImageAnnotations::default(),
        attachments: Vec::new(),
    };
    let written = room.write(&[again], "oci-archive:five.tar").unwrap();
    assert_eq!(written.digest, start.image.manifest.map(|manifest| manifest.digest));
}

#[test]
fn copies_change_what_they_are_asked_to() {
    let room = Room::new();
    let image = room.image("amd64");
    room.write(std::slice::from_ref(&image), "oci:layout:tag").unwrap();
    let docker = CopyOptions { dialect: Some(Dialect::Docker), ..CopyOptions::default() };
    room.copy("oci:layout:tag", "dir:docker", &docker).unwrap();
    assert_eq!(room.skopeo_layers("dir:docker"), 2);
    assert_eq!(room.import("dir:docker").unwrap().image.image_id, image.image.image_id);
    let back = room.copy("dir:docker", "oci:back:tag", &CopyOptions::default()).unwrap();
    assert_eq!(room.skopeo_layers("oci:back:tag"), 2);
    assert_eq!(back.images[0].image_id, image.image.image_id);
    let kept = CopyOptions { preserve_digests: true, ..CopyOptions::default() };
    assert!(room.copy("dir:docker", "oci:kept:tag", &kept).unwrap_err().is_usage());
    let zstd = CopyOptions {
        compression: Some(Compression::ZSTD),
        force_compression: true,
        ..CopyOptions::default()
    };
    room.copy("oci:layout:tag", "oci:zstd:tag", &zstd).unwrap();
    let read = room.import("oci:zstd:tag").unwrap();
    assert_eq!(read.image.image_id, image.image.image_id);
    let media_type = &read.image.layers[0].blob.as_ref().unwrap().descriptor.media_type;
    assert_eq!(media_type, "application/vnd.oci.image.layer.v1.tar+zstd");
    room.copy("oci:layout:tag", "docker-archive:a.tar", &CopyOptions::default()).unwrap();
    room.copy("docker-archive:a.tar", "oci:round:tag", &CopyOptions::default()).unwrap();
    assert_eq!(room.import("oci:round:tag").unwrap().image.image_id, image.image.image_id);
}

#[test]
fn a_root_file_system_comes_and_goes() {
    let room = Room::new();
    room.write(&[room.image("amd64")], "rootfs:root.tar.gz").unwrap();
    let names =
        String::from_utf8(output(Command::new("tar").arg("-tzf").arg(room.path("root.tar.gz")))).unwrap();
    assert_eq!(names.lines().collect::<Vec<_>>(), ["./", "etc/", "etc/b", "usr/", "usr/c"]);
    let root = room.path("root");
    fs::create_dir(&root).unwrap();
    output(Command::new("tar").arg("-xzf").arg(room.path("root.tar.gz")).arg("-C").arg(&root));
    fs::hard_link(root.join("usr/c"), root.join("usr/d")).unwrap();
    let (of_tar, of_directory) = (room.import("rootfs:root.tar.gz").unwrap(), room.import("root").unwrap());
    assert_eq!((of_tar.image.layers.len(), of_directory.image.layers.len()), (1, 1));
    assert_eq!(room.import("rootfs:root").unwrap().image.image_id, of_directory.image.image_id);
    assert_eq!(room.import("root.tar.gz").unwrap().image.image_id, of_tar.image.image_id);
    fs::write(room.path("text"), "no tar at all, but longer than nothing").unwrap();
    assert!(room.import("rootfs:text").is_err());
    let scratch = room.transport().import(&"scratch".parse().unwrap(), &Platform::default()).unwrap();
    assert!(scratch.image.layers.is_empty());
}

/// A layout with one image of one layer, of which something may be a lie.
struct Lie {
    blob: Vec<u8>,
    layer: Descriptor,
    diff_id: Digest,
}

impl Lie {
    fn truth(room: &Room) -> Self {
        let tar = tar(&room.path("tree"), &[("a", "b")]);
        let blob = piece(Compression::GZIP, &tar);
        let media_type = media_type::of_layer(Dialect::Oci, Compression::GZIP.format());
        let layer = Descriptor::new(media_type, Digest::of(&blob), blob.len() as u64);
        Self { blob, layer, diff_id: Digest::of(&tar) }
    }

    fn write(&self, path: &Path) {
        let blobs = path.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
            (digest, bytes.len() as u64)
        };
        let mut config = ImageConfig::scratch("amd64", "linux");
        config.rootfs.diff_ids = vec![self.diff_id];
        let (digest, size) = put(&config.to_json());
        let config = Descriptor::new(media_type::OCI_CONFIG, digest, size);
        let manifest = Manifest::new(Dialect::Oci, config, vec![self.layer.clone()]).to_document();
        put(&manifest.bytes);
        fs::write(blobs.join(self.layer.digest.hex()), &self.blob).unwrap();
        let index = Index::new(Dialect::Oci, vec![manifest.descriptor()]).to_document();
        fs::write(path.join("index.json"), index.bytes).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

#[test]
fn lies_leave_nothing_behind() {
    type Case = (&'static str, fn(&mut Lie), fn(&Error) -> bool);
    let cases: [Case; 6] = [
        ("truncated", |lie| lie.blob.truncate(40), Error::is_truncated),
        ("longer", |lie| lie.blob.push(0), Error::is_corrupt),
        ("another blob", |lie| lie.blob[30] ^= 1, |error| error.is_corrupt() || error.is_digest_mismatch()),
        ("another layer", |lie| lie.diff_id = Digest::of(b"other"), Error::is_digest_mismatch),
        ("foreign", |lie| lie.layer.media_type = media_type::DOCKER_FOREIGN.into(), Error::is_unsupported),
        ("no layer", |lie| lie.layer.media_type = "application/x-other".into(), Error::is_unsupported),
    ];
    for (name, change, is_expected) in cases {
        let room = Room::new();
        let mut lie = Lie::truth(&room);
        change(&mut lie);
        lie.write(&room.path("layout"));
        let error = room.import("oci:layout").unwrap_err();
        assert!(is_expected(&error), "{name}: {error:?}");
        assert!(room.store.du().unwrap().iter().all(|usage| usage.count == 0), "{name}");
        if name != "another layer" {
            for dest in ["oci:out:t", "oci-archive:out.tar", "dir:outdir"] {
                let error = room.copy("oci:layout", dest, &CopyOptions::default()).unwrap_err();
                assert!(is_expected(&error) || error.is_digest_mismatch(), "{name} {dest}: {error:?}");
            }
            assert!(!room.path("out/index.json").exists() && !room.path("out.tar").exists(), "{name}");
            assert!(!room.path("outdir/manifest.json").exists(), "{name}");
        }
    }
}

#[test]
fn pins_are_checked() {
    let room = Room::new();
    let lie = Lie::truth(&room);
    lie.write(&room.path("layout"));
    let found = room.import("oci:layout").unwrap();
    let manifest = found.image.manifest.unwrap().digest;
    for right in [found.image.image_id, manifest] {
        room.import(&format!("oci:layout@{right}")).unwrap();
    }
    let error = room.import(&format!("oci:layout@{}", Digest::of(b"x"))).unwrap_err();
    assert!(error.is_digest_mismatch(), "{error:?}");
}

#[test]
fn what_is_said_about_an_image_goes_along() {
    let room = Room::new();
    let mut image = room.image("amd64");
    image.attachments.push(Attachment {
        artifact_type: "application/spdx+json".into(),
        bytes: b"{\"an\":\"sbom\"}".to_vec(),
        annotations: Annotations::new(),
        placeholder: None,
    });
    for dest in ["oci:layout:tag", "oci-archive:a.tar:tag"] {
        room.write(std::slice::from_ref(&image), dest).unwrap();
        assert_eq!(room.skopeo_layers(dest), 2);
        room.import(dest).unwrap();
    }
    let options = CopyOptions { referrers: true, ..CopyOptions::default() };
    room.copy("oci:layout:tag", "oci:other:tag", &options).unwrap();
    let index = fs::read_to_string(room.path("other/index.json")).unwrap();
    assert!(index.contains("application/spdx+json"), "{index}");
    for dest in ["dir:dir", "docker-archive:a.tar", "rootfs:r.tar"] {
        assert!(room.write(std::slice::from_ref(&image), dest).unwrap_err().is_usage(), "{dest}");
    }
}

#[test]
fn several_sources_make_one_layout() {
    let room = Room::new();
    room.write(&[room.image("amd64")], "oci:one:example.org/a:1").unwrap();
    let mut other = room.image("amd64");
    other.names = vec!["example.org/b:2".parse().unwrap()];
    room.write(&[other], "docker-archive:two.tar").unwrap();
    let sources = [room.reference("oci:one"), room.reference("docker-archive:two.tar")];
    let written = room
        .transport()
        .copy(&sources, &room.reference("oci-archive:both.tar"), &CopyOptions::default())
        .unwrap();
    assert_eq!(written.images.len(), 2);
    for name in ["example.org/a:1", "example.org/b:2"] {
        let read = room.import(&format!("oci-archive:both.tar:{name}")).unwrap();
        assert_eq!(read.names.iter().map(ToString::to_string).collect::<Vec<_>>(), [name]);
    }
}

#[test]
fn a_docker_archive_holds_several_images() {
    let room = Room::new();
    let mut images = [room.image("amd64"), room.image("arm64")];
    images[1].names = vec!["example.org/b:2".parse().unwrap(), "example.org/c:3".parse().unwrap()];
    for dest in ["docker-archive:a.tar", "docker-archive:a.tar.gz", "docker-archive:a.tar.zst"] {
        room.write(&images, dest).unwrap();
        let all = room.transport().import_all(&room.reference(dest)).unwrap();
        let ids = |images: &[Imported]| images.iter().map(|image| image.image.image_id).collect::<Vec<_>>();
        assert_eq!(ids(&all), images.clone().map(|image| image.image.image_id), "{dest}");
        assert_eq!(all[1].names, images[1].names);
        let chosen = room.import(&format!("{dest}:example.org/c:3")).unwrap();
        assert_eq!(chosen.image.image_id, images[1].image.image_id);
        assert!(room.import(dest).unwrap_err().is_usage());
    }
    // Each of them by skopeo.
    for name in ["example.org/some/thing:1", "example.org/c:3"] {
        room.skopeo_copy(&format!("docker-archive:a.tar:{name}"), &format!("dir:{}", name.len()));
        assert_eq!(room.skopeo_layers(&format!("dir:{}", name.len())), 2);
    }
    let all = CopyOptions { all: true, ..CopyOptions::default() };
    room.copy("docker-archive:a.tar", "oci:layout", &all).unwrap();
    let copied = room.import("oci:layout:example.org/some/thing:1").unwrap();
    assert_eq!(copied.image.image_id, images[0].image.image_id);
}

/// Puts what a layout lists into an index within, and that into another, so often.
fn nest(path: &Path, depth: usize) {
    for _ in 0..depth {
        let index = fs::read(path.join("index.json")).unwrap();
        let digest = Digest::of(&index);
        fs::write(path.join("blobs/sha256").join(digest.hex()), &index).unwrap();
        let inner = Descriptor::new(media_type::OCI_INDEX, digest, index.len() as u64);
        let outer = Index::new(Dialect::Oci, vec![inner]).to_document();
        fs::write(path.join("index.json"), outer.bytes).unwrap();
    }
}

#[test]
fn indexes_in_indexes_are_followed_so_far() {
    let room = Room::new();
    let lie = Lie::truth(&room);
    lie.write(&room.path("layout"));
    let id = room.import("oci:layout").unwrap().image.image_id;
    nest(&room.path("layout"), 3);
    assert_eq!(room.import("oci:layout").unwrap().image.image_id, id);
    nest(&room.path("layout"), 1000);
    let error = room.import("oci:layout").unwrap_err();
    assert!(error.is_corrupt() && error.to_string().contains("more than 8 deep"), "{error}");
}

#[test]
fn compressed_archives_of_layouts_are_read() {
    let room = Room::new();
    let image = room.image("amd64");
    room.write(std::slice::from_ref(&image), "oci-archive:a.tar:tag").unwrap();
    let plain = fs::read(room.path("a.tar")).unwrap();
    for compression in [Compression::GZIP, Compression::ZSTD] {
        fs::write(room.path("packed"), piece(compression, &plain)).unwrap();
        for text in ["packed", "oci-archive:packed:tag"] {
            assert_eq!(room.import(text).unwrap().image.image_id, image.image.image_id, "{text}");
        }
    }
    fs::write(room.path("cut"), &plain[..plain.len() / 2]).unwrap();
    let error = Room::new().transport().import(&room.reference("oci-archive:cut:tag"), &Platform::default());
    assert!(error.as_ref().is_err_and(|error| error.is_truncated() || error.is_corrupt()), "{error:?}");
}

/// What a layout had under a tag stays when the new image turns out to be wrong.
#[test]
fn a_failed_write_leaves_the_layout_as_it_was() {
    let room = Room::new();
    room.write(&[room.image("amd64")], "oci:layout:tag").unwrap();
    let before = fs::read(room.path("layout/index.json")).unwrap();
    let mut lie = Lie::truth(&room);
    lie.blob.truncate(40);
    lie.write(&room.path("lie"));
    room.copy("oci:lie", "oci:layout:tag", &CopyOptions::default()).unwrap_err();
    assert_eq!(fs::read(room.path("layout/index.json")).unwrap(), before);
    assert_eq!(room.skopeo_layers("oci:layout:tag"), 2);
    fs::create_dir(room.path("other")).unwrap();
    fs::write(room.path("other/mine"), "").unwrap();
    for dest in ["oci:other:tag", "dir:other"] {
        assert!(room.write(&[room.image("amd64")], dest).unwrap_err().is_usage(), "{dest}");
    }
    assert_eq!(fs::read_dir(room.path("other")).unwrap().count(), 1);
}

#[test]
fn umoci_makes_what_kiln_reads() {
    let room = Room::new();
    let layout = room.path("layout");
    let image = format!("{}:tag", layout.display());
    output(Command::new("umoci").args(["init", "--layout"]).arg(&layout));
    output(Command::new("umoci").args(["new", "--image", &image]));
    let bundle = room.path("bundle");
    output(Command::new("umoci").args(["unpack", "--rootless", "--image", &image]).arg(&bundle));
    fs::create_dir(bundle.join("rootfs/etc")).unwrap();
    fs::write(bundle.join("rootfs/etc/file"), "text").unwrap();
    output(Command::new("umoci").args(["repack", "--image", &image]).arg(&bundle));
    let read = room.import("oci:layout:tag").unwrap();
    assert_eq!(read.image.layers.len(), 1);
    let output = OutputImage {
        image: read.image,
        names: Vec::new(),
        annotations: ImageAnnotations::default(),
        attachments: Vec::new(),
    };
    room.write(&[output], "rootfs:root.tar").unwrap();
    let names = Command::new("tar").arg("-tf").arg(room.path("root.tar")).output().unwrap().stdout;
    assert!(String::from_utf8(names).unwrap().contains("etc/file"));
}
