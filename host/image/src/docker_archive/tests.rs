use super::*;
use crate::Error;
use crate::compress::{Compression, piece};
use crate::entry::{Entry, Kind, Metadata};
use crate::reference::Choice;
use crate::tar;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Keeps layers in memory.
#[derive(Default)]
struct Store(BTreeMap<Digest, Vec<u8>>);

impl LayerSink for Store {
    type Writer = Vec<u8>;

    fn begin(&mut self, _: &str) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn end(&mut self, bytes: Vec<u8>, layer: LayerRef) -> io::Result<()> {
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (layer.diff_id, layer.size));
        self.0.insert(layer.diff_id, bytes);
        Ok(())
    }
}

/// Gives them back, in some compression.
struct Shelf<'a>(&'a Store, Compression);

impl LayerSource for Shelf<'_> {
    type Reader = io::Cursor<Vec<u8>>;

    fn open(&mut self, diff_id: &Digest) -> io::Result<StoredLayer<Self::Reader>> {
        let bytes = self.0.0.get(diff_id).ok_or(io::ErrorKind::NotFound)?;
        // In two pieces, as the parallel compressor makes them.
        let (left, right) = bytes.split_at(bytes.len() / 2);
        let compressed = [piece(self.1, left), piece(self.1, right)].concat();
        Ok(StoredLayer { size: bytes.len() as u64, bytes: io::Cursor::new(compressed) })
    }
}

enum Member<'a> {
    File(&'a str, &'a [u8]),
    Symlink(&'a str, &'a str),
    HardLink(&'a str, &'a str),
}

use Member::{File, HardLink, Symlink};

fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut writer = tar::Writer::new(Vec::new());
    for member in members {
        let (path, kind, mut data) = match *member {
            File(path, data) => (path, Kind::File { size: data.len() as u64 }, data),
            Symlink(path, target) => (path, Kind::Symlink { target: target.into() }, &b""[..]),
            HardLink(path, target) => (path, Kind::HardLink { target: target.into() }, &b""[..]),
        };
        let entry = Entry { path: path.into(), metadata: Metadata::default(), kind };
        writer.append(&entry, &mut data).unwrap();
    }
    writer.finish().unwrap()
}

fn layer(text: &str) -> Vec<u8> {
    tar_of(&[File("file", text.as_bytes())])
}

fn config_of(layers: &[&[u8]]) -> Vec<u8> {
    let mut config = ImageConfig::scratch("amd64", "linux");
    config.rootfs.diff_ids = layers.iter().map(|layer| Digest::of(layer)).collect();
    config.to_json()
}

fn config_name(config: &[u8]) -> String {
    format!("{}.json", Digest::of(config).hex())
}

fn manifest_of(config: &str, tags: &[&str], layers: &[&str]) -> Vec<u8> {
    format!(r#"[{{"Config":{config:?},"RepoTags":{tags:?},"Layers":{layers:?}}}]"#).into_bytes()
}

fn read_only(archive: &[u8]) -> Result<Archive, Error> {
    read(archive, &Choice::Only, None, &mut Store::default())
}

/// One image of two layers.
struct Sample {
    layers: [Vec<u8>; 2],
    config: Vec<u8>,
    name: String,
    manifest: Vec<u8>,
}

impl Sample {
    fn new() -> Self {
        let layers = [layer("one"), layer("two")];
        let config = config_of(&[&layers[0], &layers[1]]);
        let name = config_name(&config);
        let manifest = manifest_of(&name, &["debian:12", "not a name"], &["1.tar", "2/layer.tar"]);
        Self { layers, config, name, manifest }
    }

    fn tar(&self) -> Vec<u8> {
        tar_of(&[
            File("1.tar", &self.layers[0]),
            File("2/layer.tar", &self.layers[1]),
            File("2/VERSION", b"1.0"),
            File(&self.name, &self.config),
            File("manifest.json", &self.manifest),
        ])
    }

    fn assert(&self, archive: &Archive) {
        assert_eq!(archive.image_id, Digest::of(&self.config));
        assert_eq!(archive.config_json, self.config);
        assert_eq!(archive.config, ImageConfig::parse(&self.config).unwrap());
        let refs: Vec<_> =
            self.layers.iter().map(|l| LayerRef { diff_id: Digest::of(l), size: l.len() as u64 }).collect();
        assert_eq!(archive.layers, refs);
    }
}

#[test]
fn reads_any_compression_outside() {
    let sample = Sample::new();
    for compression in [Compression::GZIP, Compression::ZSTD, Compression::None] {
        let mut store = Store::default();
        let archive = read(&*piece(compression, &sample.tar()), &Choice::Only, None, &mut store).unwrap();
        sample.assert(&archive);
        assert_eq!(archive.names, ["debian:12".parse().unwrap()]);
        assert_eq!(store.0.len(), 2);
    }
}

#[test]
fn reads_any_compression_inside_in_any_order() {
    let sample = Sample::new();
    let one = piece(Compression::GZIP, &sample.layers[0]);
    let two = piece(Compression::ZSTD, &sample.layers[1]);
    let name = format!("sha256:{}", Digest::of(&sample.config).hex());
    let archive = tar_of(&[
        File("manifest.json", &manifest_of(&name, &[], &["one.tar.gz", "blobs/sha256/two"])),
        File(&name, &sample.config),
        File("blobs/sha256/two", &two),
        File("one.tar.gz", &one),
    ]);
    sample.assert(&read_only(&archive).unwrap());
}

#[test]
fn follows_links_and_takes_a_layer_twice() {
    let one = layer("one");
    let config = config_of(&[&one, &one, &one, &one]);
    let layers = ["a/layer.tar", "b/layer.tar", "c/layer.tar", "a/layer.tar"];
    let archive = tar_of(&[
        File("a/layer.tar", &one),
        Symlink("b/layer.tar", "../a/layer.tar"),
        HardLink("c/layer.tar", "a/layer.tar"),
        File(&config_name(&config), &config),
        File("manifest.json", &manifest_of(&config_name(&config), &[], &layers)),
    ]);
    let read = read_only(&archive).unwrap();
    assert_eq!(read.layers, [LayerRef { diff_id: Digest::of(&one), size: one.len() as u64 }; 4]);
}

#[test]
fn an_image_may_have_no_layers() {
    let config = config_of(&[]);
    let manifest = format!(r#"[{{"Config":{:?},"RepoTags":null,"Layers":null}}]"#, config_name(&config));
    let archive = tar_of(&[File(&config_name(&config), &config), File("manifest.json", manifest.as_bytes())]);
    assert_eq!(read_only(&archive).unwrap().layers, []);
}

#[test]
fn one_of_several_images_is_chosen() {
    let (one, two) = (config_of(&[]), ImageConfig::scratch("arm64", "linux").to_json());
    let manifest = br#"[{"Config":"one.json","RepoTags":["a:1","a:2"]},{"Config":"two.json"}]"#;
    let archive = tar_of(&[File("one.json", &one), File("two.json", &two), File("manifest.json", manifest)]);
    let read = |choice: &Choice| read(&*archive, choice, None, &mut Store::default());
    let name = |text: &str| Choice::Name(text.parse().unwrap());
    for (choice, expected) in [
        (Choice::Index(0), &one),
        (Choice::Index(1), &two),
        (name("a:2"), &one),
        (name("docker.io/a:1"), &one),
    ] {
        assert_eq!(read(&choice).unwrap().config_json, *expected, "{choice:?}");
    }
    let list = r#"@0 "a:1" "a:2", @1"#;
    for (choice, expected) in [
        (Choice::Only, format!("the archive holds several images, choose one: {list}")),
        (Choice::Index(2), format!("the archive holds no image @2, but: {list}")),
        (name("b"), format!("the archive holds no image b:latest, but: {list}")),
    ] {
        let error = read(&choice).unwrap_err();
        assert!(error.is_choice());
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn no_image_at_all() {
    let error = read_only(&tar_of(&[File("manifest.json", b"[]")])).unwrap_err();
    assert!(error.is_choice());
    assert_eq!(error.to_string(), "the archive holds no image");
    let error = read_only(&tar_of(&[File("oci-layout", b"{}")])).unwrap_err();
    assert!(error.is_unsupported());
    assert_eq!(error.to_string(), "this is an OCI archive without the `manifest.json` of a docker-archive");
    let error = read_only(&tar_of(&[File("bin/sh", b"?")])).unwrap_err();
    assert!(error.is_corrupt());
    let why = "neither `manifest.json` nor `repositories` and `*/layer.tar` are in it";
    assert_eq!(error.to_string(), format!("docker-archive is corrupt: {why}"));
}

#[test]
fn what_the_manifest_names_must_be_there_and_fit() {
    let (one, config) = (layer("one"), config_of(&[&layer("one")]));
    for (named_config, named_layers, why) in [
        ("no.json", vec!["1.tar"], r#"it names a configuration "no.json", which the archive does not hold"#),
        ("1.tar", vec!["1.tar"], r#"it names a configuration "1.tar", which the archive does not hold"#),
        ("c.json", vec!["no.tar"], r#"it names a layer "no.tar", which the archive does not hold"#),
        ("c.json", vec!["c.json"], r#"it names a layer "c.json", which the archive does not hold"#),
        ("c.json", vec![], "it names 0 layers, the configuration 1"),
        ("c.json", vec!["1.tar", "1.tar"], "it names 2 layers, the configuration 1"),
    ] {
        let manifest = manifest_of(named_config, &[], &named_layers);
        let archive =
            tar_of(&[File("1.tar", &one), File("c.json", &config), File("manifest.json", &manifest)]);
        let error = read_only(&archive).unwrap_err();
        assert!(error.is_corrupt());
        assert_eq!(error.to_string(), format!("manifest.json is corrupt: {why}"));
    }
}

#[test]
fn documents_that_do_not_parse() {
    for (manifest, config, expected) in [
        (&b"[{]"[..], &b"{}"[..], "manifest.json is corrupt: it does not parse"),
        (br#"[{"Config":"c.json"}]"#, b"[", "image configuration is corrupt: it does not parse"),
    ] {
        let error =
            read_only(&tar_of(&[File("c.json", config), File("manifest.json", manifest)])).unwrap_err();
        assert!(error.is_corrupt());
        assert_eq!(error.to_string(), expected);
    }
    let error = read_only(&tar_of(&[File("a.json", &vec![b' '; (8 << 20) + 1])])).unwrap_err();
    assert!(error.is_corrupt());
    let why = "it has 8388609 bytes, more than the 8388608 allowed";
    assert_eq!(error.to_string(), format!("member \"a.json\" is corrupt: {why}"));
}

#[test]
fn everything_is_what_its_digest_says() {
    let sample = Sample::new();
    let (expected, got) = (Digest::of(&sample.layers[0]), Digest::of(&sample.layers[1]));
    let swapped = Sample { layers: [sample.layers[1].clone(), sample.layers[1].clone()], ..Sample::new() };
    let other = Sample { config: config_of(&[]), ..Sample::new() };
    let pinned = read(&*sample.tar(), &Choice::Only, Some(&got), &mut Store::default());
    for (result, message) in [
        (read_only(&swapped.tar()), format!("layer \"1.tar\" should be {expected}, but is {got}")),
        (
            read_only(&other.tar()),
            format!(
                "configuration {:?} should be {}, but is {}",
                sample.name,
                Digest::of(&sample.config),
                Digest::of(&other.config)
            ),
        ),
        (pinned, format!("the image should be {got}, but is {}", Digest::of(&sample.config))),
    ] {
        let error = result.unwrap_err();
        assert!(error.is_digest_mismatch());
        assert_eq!(error.to_string(), format!("digest mismatch: {message}"));
    }
    for name in [format!("blobs/sha256/{}", got.hex()), format!("sha256:{}", got.hex())] {
        let manifest = manifest_of(&name, &[], &[]);
        let error = read_only(&tar_of(&[File(&name, b"{}"), File("manifest.json", &manifest)])).unwrap_err();
        assert!(error.is_digest_mismatch(), "{name}");
    }
    let image_id = Digest::of(&sample.config);
    assert!(read(&*sample.tar(), &Choice::Only, Some(&image_id), &mut Store::default()).is_ok());
}

#[test]
fn a_broken_layer_is_named() {
    let whole = piece(Compression::GZIP, &layer("one"));
    let mut flipped = whole.clone();
    flipped[20] ^= 0xff;
    for (bytes, expected) in [
        (&whole[..50], "layer \"1.tar.gz\", a gzip stream, ends early, at byte 50"),
        (&flipped, "layer \"1.tar.gz\", a gzip stream, is corrupt: before byte 80"),
        (b"\xfd7zXZ\0", "layer \"1.tar.gz\" is xz-compressed: kiln reads gzip, zstd and uncompressed"),
    ] {
        let error = read_only(&tar_of(&[File("1.tar.gz", bytes)])).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn cut_anywhere_it_is_truncated() {
    let tar = Sample::new().tar();
    for compression in [Compression::GZIP, Compression::ZSTD, Compression::None] {
        let whole = piece(compression, &tar);
        let step = if compression == Compression::None { 64 } else { 1 };
        // Shorter, and the format is not known yet.
        let known = if compression == Compression::None { 512 } else { 10 };
        for cut in (known..whole.len()).step_by(step).chain([whole.len() - 1]) {
            let error = read_only(&whole[..cut]).unwrap_err();
            assert!(error.is_truncated(), "{compression} {cut}: {error}");
        }
    }
}

#[test]
fn what_is_no_archive_at_all_is_corrupt() {
    let text = b"This is plain text.\n".repeat(100);
    let zipped = piece(Compression::GZIP, &text);
    for (bytes, why) in [
        (&b""[..], "it is empty"),
        (&text[..20], "it is shorter than a header"),
        (&text, "it does not begin with a header"),
        (&zipped, "it does not begin with a header"),
    ] {
        let error = read_only(bytes).unwrap_err();
        assert!(error.is_corrupt());
        assert_eq!(error.to_string(), format!("not a tar archive: {why}"));
    }
}

#[test]
fn a_flipped_byte_is_found_or_harmless() {
    let sample = Sample::new();
    let tar = sample.tar();
    let (mut found, mut harmless) = (0, 0);
    for at in (0..tar.len()).step_by(7) {
        let mut flipped = tar.clone();
        flipped[at] ^= 0xff;
        match read_only(&flipped) {
            Ok(archive) => {
                sample.assert(&archive);
                harmless += 1;
            }
            Err(error) => {
                assert!(!error.is_io(), "{at}: {error}");
                found += 1;
            }
        }
    }
    assert!(found > harmless / 4, "{found} {harmless}");
}

/// Takes so many bytes of a layer, then fails.
struct Broken(usize);

impl LayerSink for Broken {
    type Writer = io::Cursor<Box<[u8]>>;

    fn begin(&mut self, _: &str) -> io::Result<Self::Writer> {
        if self.0 == 0 {
            return Err(io::Error::other("no"));
        }
        Ok(io::Cursor::new(vec![0; self.0].into()))
    }

    fn end(&mut self, _: Self::Writer, _: LayerRef) -> io::Result<()> {
        Err(io::Error::other("too late"))
    }
}

#[test]
fn a_failing_sink_ends_it() {
    for (size, cause) in [(0, "no"), (100, "failed to write whole buffer"), (1 << 20, "too late")] {
        let error = read(&*Sample::new().tar(), &Choice::Only, None, &mut Broken(size)).unwrap_err();
        assert!(error.is_io());
        assert_eq!(error.to_string(), "cannot store layer \"1.tar\"");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), cause);
    }
}

mod before_1_10 {
    use super::*;

    const TOP: &str = r#"{"id":"b","parent":"a","created":"2015-01-01T00:00:00Z","architecture":"amd64","os":"linux",
        "container_config":{"Cmd":["/bin/sh","-c","touch x"]},"config":{"Cmd":["sh"]},"Size":3,"comment":"c"}"#;

    fn archive(repositories: Option<&str>, bottom: &str, top: &str) -> Vec<u8> {
        let (one, two) = (layer("one"), layer("two"));
        let mut members = vec![
            File("b/VERSION", b"1.0"),
            File("b/json", top.as_bytes()),
            File("b/layer.tar", &two),
            File("a/json", bottom.as_bytes()),
            File("a/layer.tar", &one),
        ];
        members.extend(repositories.map(|json| File("repositories", json.as_bytes())));
        tar_of(&members)
    }

    #[test]
    fn is_read() {
        for (repositories, names) in
            [(Some(r#"{"me/app":{"2":"b","1":"b"}}"#), vec!["me/app:1", "me/app:2"]), (None, vec![])]
        {
            let read = read_only(&archive(repositories, r#"{"id":"a"}"#, TOP)).unwrap();
            assert_eq!(read.names.iter().map(ImageName::to_string).collect::<Vec<_>>(), names);
            let expected = format!(
                concat!(
                    r#"{{"created":"2015-01-01T00:00:00Z","architecture":"amd64","os":"linux","#,
                    r#""config":{{"Cmd":["sh"]}},"rootfs":{{"type":"layers","diff_ids":["{}","{}"]}},"#,
                    r#""history":[{{}},{{"created":"2015-01-01T00:00:00Z","#,
                    r#""created_by":"/bin/sh -c touch x","comment":"c"}}],"#,
                    r#""container_config":{{"Cmd":["/bin/sh","-c","touch x"]}},"comment":"c"}}"#
                ),
                Digest::of(&layer("one")),
                Digest::of(&layer("two"))
            );
            assert_eq!(String::from_utf8(read.config_json.clone()).unwrap(), expected);
            assert_eq!(read.image_id, Digest::of(&read.config_json));
            assert_eq!(read.layers[1].diff_id, Digest::of(&layer("two")));
        }
    }

    #[test]
    fn is_refused() {
        let names = Some(r#"{"app":{"1":"b"}}"#);
        for (repositories, bottom, top, expected) in [
            (names, r#"{"parent":"b"}"#, TOP, r#"layer "b" is corrupt: it is its own ancestor"#),
            (
                names,
                r#"{"parent":"z"}"#,
                TOP,
                r#"layer "z" is corrupt: the archive does not hold its `json`"#,
            ),
            (names, "{}", "[", r#"layer "b" is corrupt: its `json` does not parse"#),
            (names, "{}", r#"{"config":3}"#, r#"layer "b" is corrupt: its `json` does not parse"#),
            (Some("[]"), "{}", TOP, "repositories is corrupt: it does not parse"),
            (
                Some(r#"{"app":{"1":"q"}}"#),
                "{}",
                TOP,
                r#"layer "q" is corrupt: the archive does not hold its `json`"#,
            ),
            (
                Some(r#"{"app":{"1":"a","2":"b"}}"#),
                "{}",
                TOP,
                r#"the archive holds several images, choose one: @0 "app:1", @1 "app:2""#,
            ),
        ] {
            assert_eq!(read_only(&archive(repositories, bottom, top)).unwrap_err().to_string(), expected);
        }
        let without_layer = tar_of(&[File("b/json", b"{}"), File("repositories", br#"{"app":{"1":"b"}}"#)]);
        let expected = r#"layer "b" is corrupt: the archive does not hold its `layer.tar`"#;
        assert_eq!(read_only(&without_layer).unwrap_err().to_string(), expected);
    }
}

mod writing {
    use super::*;

    fn names() -> [ImageName; 2] {
        ["debian:12", "localhost:5000/me/app:1"].map(|name| name.parse().unwrap())
    }

    /// An image of layers 1, 2 and 1 again.
    fn image() -> (Store, Vec<u8>) {
        let layers = [layer("one"), layer("two")];
        let config = config_of(&[&layers[0], &layers[1], &layers[0]]);
        (Store(layers.into_iter().map(|layer| (Digest::of(&layer), layer)).collect()), config)
    }

    fn written(compression: Compression) -> Vec<u8> {
        let (store, config) = image();
        write(Vec::new(), compression, &config, &names(), &mut Shelf(&store, compression)).unwrap()
    }

    #[test]
    fn is_read_back() {
        for compression in [Compression::GZIP, Compression::ZSTD, Compression::None] {
            let archive = written(compression);
            assert_eq!(archive, written(compression));
            let mut store = Store::default();
            let read = read(&*archive, &Choice::Only, None, &mut store).unwrap();
            let (expected, config) = image();
            assert_eq!(read.names, names());
            assert_eq!(read.config_json, config);
            assert_eq!(store.0, expected.0);
        }
    }

    /// Whoever builds twice expects the same bytes, also of the next version of kiln.
    #[test]
    fn golden() {
        let expected = "sha256:2f0b60d9a901ec662b34819e523d053948d2816ece51133693c4021dd5b50146";
        assert_eq!(Digest::of(&written(Compression::None)).to_string(), expected);
    }

    #[test]
    fn old_daemons_read_the_same_image() {
        let mut all = written(Compression::None);
        // Without its manifest the archive is one of the layout before 1.10.
        let at = all.windows(13).rposition(|window| window == b"manifest.json").unwrap();
        all.truncate(at);
        all.extend([0; 1024]);
        let legacy = read_only(&all).unwrap();
        assert_eq!(legacy.names, names());
        let diff_ids: Vec<_> = legacy.layers.iter().map(|layer| layer.diff_id).collect();
        assert_eq!(diff_ids, ImageConfig::parse(&image().1).unwrap().rootfs.diff_ids);
        assert_eq!(legacy.config.architecture, "amd64");
    }

    #[test]
    fn failures() {
        let (store, config) = image();
        struct Short;
        impl LayerSource for Short {
            type Reader = io::Empty;
            fn open(&mut self, _: &Digest) -> io::Result<StoredLayer<io::Empty>> {
                Ok(StoredLayer { size: 3, bytes: io::empty() })
            }
        }
        let one = Digest::of(&layer("one"));
        let error = write(Vec::new(), Compression::None, &config, &[], &mut Short).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("layer {one} is corrupt: it has 0 bytes, not the 3 it was said to have")
        );
        let (nothing, none) = (Store::default(), Compression::None);
        let error = write(Vec::new(), none, &config, &[], &mut Shelf(&nothing, none)).unwrap_err();
        assert!(error.is_io());
        assert_eq!(error.to_string(), format!("cannot open layer {one}"));
        let full: &mut [u8] = &mut [0; 1000];
        let error = write(full, none, &config, &[], &mut Shelf(&store, none)).unwrap_err();
        assert!(error.is_io());
        assert_eq!(error.to_string(), "cannot write the archive");
        let error = write(Vec::new(), none, b"[", &[], &mut Shelf(&store, none)).unwrap_err();
        assert_eq!(error.to_string(), "image configuration is corrupt: it does not parse");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read_only(&bytes);
    }

    #[test]
    fn any_documents_are_read_or_refused(
        manifest in r#"\[?\{?("Config":"(a|b|c)",?|"Layers":\["(a|b|../b)"\],?|"RepoTags":\["[a-z:]{0,5}"\],?){0,3}\}?\]?"#,
        config in any::<Vec<u8>>(),
        json in r#"\{("parent":"(x|y)",?|"config":\{\},?){0,2}\}"#,
    ) {
        let layer = layer("x");
        let _ = read_only(&tar_of(&[
            File("a", &config),
            Symlink("b", "a"),
            File("x/json", json.as_bytes()),
            File("x/layer.tar", &layer),
            File("y/json", json.as_bytes()),
            Symlink("y/layer.tar", "../x/layer.tar"),
        ]));
        let _ = read_only(&tar_of(&[File("a", &layer), Symlink("b", "a"), File("c", &config), File("manifest.json", manifest.as_bytes())]));
    }
}

/// Two images that share a layer, written and read in both layouts.
#[test]
fn several_images_are_written_and_read_at_once() {
    let layers = [layer("shared"), layer("one"), layer("two")];
    let configs = [config_of(&[&layers[0], &layers[1]]), config_of(&[&layers[0], &layers[2]])];
    let names: [Vec<crate::reference::ImageName>; 2] =
        [vec!["one:1".parse().unwrap()], vec!["two:1".parse().unwrap(), "two:latest".parse().unwrap()]];
    let store = Store(layers.iter().map(|layer| (Digest::of(layer), layer.clone())).collect());
    let images: Vec<ArchiveImage> =
        configs.iter().zip(&names).map(|(config_json, names)| ArchiveImage { config_json, names }).collect();
    for compression in [Compression::None, Compression::GZIP] {
        let tar = write_all(Vec::new(), compression, &images, &mut Shelf(&store, compression)).unwrap();
        let mut sink = Store::default();
        let all = read_all(&tar[..], &mut sink).unwrap();
        assert_eq!(sink.0.len(), 3);
        for ((archive, config), names) in all.iter().zip(&configs).zip(&names) {
            assert_eq!((&archive.config_json, &archive.names), (config, names));
        }
        assert!(read(&tar[..], &Choice::Only, None, &mut Store::default()).unwrap_err().is_choice());
    }
    // As old daemons see it.
    let tar =
        write_all(Vec::new(), Compression::None, &images, &mut Shelf(&store, Compression::None)).unwrap();
    let old = without(&tar, MANIFEST);
    let all = read_all(&old[..], &mut Store::default()).unwrap();
    let mut seen: Vec<_> =
        all.iter().map(|archive| (archive.names.len(), archive.layers[1].diff_id)).collect();
    seen.sort();
    assert_eq!(seen, [(1, Digest::of(&layers[1])), (2, Digest::of(&layers[2]))]);
}

/// An archive without one of its members.
fn without(tar: &[u8], name: &str) -> Vec<u8> {
    let mut reader = tar::Reader::new(tar);
    let mut writer = tar::Writer::new(Vec::new());
    while let Some(member) = reader.next_entry().unwrap() {
        let mut data = Vec::new();
        io::Read::read_to_end(&mut reader, &mut data).unwrap();
        if member.entry.path != name.as_bytes() {
            writer.append(&member.entry, &mut &data[..]).unwrap();
        }
    }
    writer.finish().unwrap()
}

#[test]
fn a_foreign_layer_is_named_with_where_its_maker_has_it() {
    let sample = Sample::new();
    let diff_id = Digest::of(&sample.layers[1]);
    let source = format!(
        r#"{{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","size":1,"digest":"{diff_id}","urls":["https://example.org/layer"]}}"#
    );
    let manifest = format!(
        r#"[{{"Config":{:?},"Layers":["1.tar","2/layer.tar"],"LayerSources":{{"{diff_id}":{source}}}}}]"#,
        sample.name
    );
    let tar = tar_of(&[
        File("1.tar", &sample.layers[0]),
        File(&sample.name, &sample.config),
        File("manifest.json", manifest.as_bytes()),
    ]);
    let error = read_only(&tar).unwrap_err();
    assert!(error.is_unsupported());
    assert_eq!(
        error.to_string(),
        format!(
            "layer 1 ({diff_id}) is foreign: the archive does not hold it, only its maker may distribute it \
             (\"https://example.org/layer\"), and kiln does not fetch it from there"
        )
    );
}
