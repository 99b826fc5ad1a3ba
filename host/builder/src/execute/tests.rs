use super::*;
use crate::{Event, Reason, places::Places};
use kiln_engine::Accel;
use kiln_image::{
    config::History,
    reference::{Choice, ImageReference, Location},
};
use kiln_transport::{ImageAnnotations, Imported, OutputImage, WrittenImage};
use std::{fs, path::PathBuf, sync::Mutex};
use tempfile::TempDir;

/// Reads docker-archives, and keeps what is written.
struct FakePlaces {
    store: Store,
    written: Mutex<Vec<(Vec<OutputImage>, OutputSpec)>>,
    imports: Mutex<usize>,
}

impl Places for FakePlaces {
    fn import(&self, reference: &ImageReference, _: &Platform) -> Result<Imported, Error> {
        *self.imports.lock().unwrap() += 1;
        let path = PathBuf::from(reference.location.path().unwrap());
        let choice = match &reference.location {
            Location::DockerArchive { choice, .. } => choice.clone(),
            _ => Choice::Only,
        };
        let image = self.store.import_docker_archive(&path, &choice, None).unwrap();
        Ok(Imported { image, names: Vec::new(), annotations: ImageAnnotations::default() })
    }

    fn write(&self, images: &[OutputImage], spec: &OutputSpec) -> Result<Written, Error> {
        self.written.lock().unwrap().push((images.to_vec(), spec.clone()));
        let written = |image: &OutputImage| WrittenImage {
            image_id: image.image.image_id,
            manifest: Some(Digest::of(b"manifest")),
            names: image.names.clone(),
            platform: Platform::of(&image.image.config),
        };
        let images = images.iter().map(written).collect();
        Ok(Written { dest: spec.dest.to_string(), size: 1, digest: None, images })
    }
}

/// A directory with a build file and a store.
struct Bench {
    directory: TempDir,
    places: FakePlaces,
    phases: Mutex<Vec<String>>,
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let store = Store::open(&directory.path().join("store")).unwrap();
        let places = FakePlaces { store, written: Mutex::default(), imports: Mutex::default() };
        Self { directory, places, phases: Mutex::default() }
    }

    fn request(&self, text: &str, outputs: &[&str]) -> BuildRequest {
        let path = self.directory.path().join("kiln.toml");
        fs::write(&path, text).unwrap();
        BuildRequest {
            file: BuildFile::read(&path).unwrap(),
            names: Vec::new(),
            outputs: outputs.iter().map(|output| crate::parse_output(output).unwrap()).collect(),
            disk_outputs: Vec::new(),
            toolbox: Toolbox(Box::new(|_, _| Err("there is none".into()))),
            targets: Vec::new(),
            source_date_epoch: None,
            guest: GuestSettings {
                accel: Accel::Tcg,
                kernel: None,
                lib_dir: PathBuf::new(),
                memory_mib: 512,
                cpus: None,
                cpu_model: Default::default(),
                scratch_size: 2 << 30,
                show_console: false,
            },
            threads: NonZeroUsize::MIN,
            attestations: Attestations::default(),
        }
    }

    fn build(&self, request: &BuildRequest) -> Result<Built, Error> {
        let observer = |event: Event<'_>| {
            if let Event::Phase(text) = event {
                self.phases.lock().unwrap().push(text.to_owned());
            }
        };
        build(request, &self.places.store, &self.places, &Interrupt::default(), &observer)
    }

    /// Builds, and gives the images of the last output.
    fn images(&self, text: &str) -> Vec<OutputImage> {
        let request = self.request(text, &["oci:out"]);
        self.build(&request).map_err(|error| format!("{error} {error:?}")).unwrap();
        self.places.written.lock().unwrap().pop().unwrap().0
    }

    fn error(&self, text: &str, outputs: &[&str]) -> String {
        let request = self.request(text, outputs);
        let error = self.build(&request).unwrap_err().to_string();
        error.replace(&self.directory.path().display().to_string(), "")
    }
}

/// Every path of the merged image, and of its last layer.
fn listing(image: &OutputImage) -> (Vec<String>, Vec<String>) {
    let files = crate::contents::Files::of(&image.image.layers).unwrap();
    let text = |path: Vec<u8>| String::from_utf8(path).unwrap();
    let merged = files.tree.walk().skip(1).map(|(path, _)| text(path)).collect();
    let mut reader = image.image.layers.last().unwrap().headers().unwrap();
    let last = reader.entries().map(|entry| text(entry.unwrap().entry.path)).collect();
    (merged, last)
}

const TREES: [(&str, &str); 4] = [("one/a", "1"), ("one/dir/b", "2"), ("two/a", "1"), ("two/c", "3")];

#[test]
fn the_short_form_is_one_image() {
    let bench = Bench::new(&TREES);
    let request = bench.request("name = 'x'\ncontents = ['one']\n", &["oci:out", "docker-archive:a.tar.gz"]);
    let built = bench.build(&request).unwrap();
    let written = bench.places.written.lock().unwrap();
    assert_eq!(written.len(), 2);
    let [image] = &written[0].0[..] else { panic!("one image") };
    assert_eq!(image.image.image_id, written[1].0[0].image.image_id);
    assert_eq!(listing(image).0, ["a", "dir", "dir/b"]);
    assert_eq!(built.images[0].names[0].to_string(), "x:latest");
    assert_eq!(built.images[0].manifests.len(), 2);
    assert!(built.inputs.is_empty());
    let phases = bench.phases.lock().unwrap();
    assert_eq!(*phases, ["packing contents", "writing images", "writing images"]);
}

#[test]
fn nothing_is_an_image_without_layers() {
    let bench = Bench::new(&[]);
    let [image] = &bench.images("")[..] else { panic!("one image") };
    assert!(image.image.layers.is_empty());
    let History { empty_layer, created_by, .. } = &image.image.config.history[0];
    assert_eq!((*empty_layer, created_by.as_deref()), (true, Some("kiln build")));
}

const FAMILY: &str = "
[[image]]
id = 'app'
name = 'app'
parent = 'base'
author = 'me'
comment = 'why'
[[image.layer]]
contents = ['two']
[[image.layer]]
delete = ['/dir']
created-by = 'rm'
[image.config]
Env = ['A=2', 'B=3']

[[image]]
id = 'base'
name = 'base'
contents = ['one']
[image.config]
Env = ['A=1']

[[image]]
id = 'worker'
name = 'worker'
parent = 'app'
[image.config]
Cmd = ['/worker']
";

#[test]
fn children_are_built_on_parents_of_the_same_file() {
    let bench = Bench::new(&TREES);
    let images = bench.images(FAMILY);
    let [app, base, worker] = &images[..] else { panic!("three images") };
    assert_eq!(listing(base).0, ["a", "dir", "dir/b"]);
    assert_eq!(listing(app), (vec!["a".to_owned(), "c".to_owned()], vec![".wh.dir".to_owned()]));
    // What the parent has is not again in the child.
    let mut second = app.image.layers[1].headers().unwrap();
    assert_eq!(second.entries().count(), 1);
    assert_eq!(app.image.layers[0].diff_id, base.image.layers[0].diff_id);
    let config = &app.image.config;
    assert_eq!(config.config.env.as_ref().unwrap(), &["A=2", "B=3"]);
    let said: Vec<_> = config.history.iter().map(|entry| entry.created_by.as_deref().unwrap()).collect();
    assert_eq!(said, ["kiln build", "kiln build", "rm"]);
    assert_eq!((config.author.as_deref(), config.history[2].comment.as_deref()), (Some("me"), Some("why")));
    assert_eq!(config.history[2].author.as_deref(), Some("me"));
    assert_eq!(worker.image.layers.len(), 3);
    assert!(worker.image.config.history[3].empty_layer);
    let packed =
        bench.phases.lock().unwrap().iter().filter(|phase| phase.ends_with("packing contents")).count();
    assert_eq!(packed, 3);
}

#[test]
fn only_what_is_wanted_is_built() {
    let bench = Bench::new(&TREES);
    let mut request = bench.request(FAMILY, &["oci:out"]);
    request.targets = vec!["base".to_owned()];
    request.names = vec!["other:1".parse().unwrap()];
    let built = bench.build(&request).unwrap();
    assert_eq!(built.images.len(), 1);
    assert_eq!(built.images[0].names[0].to_string(), "other:1");
    assert_eq!(bench.phases.lock().unwrap().len(), 2);
    request.targets = vec!["x".to_owned()];
    let error = bench.build(&request).unwrap_err().to_string();
    assert_eq!(error, "there is no image `x` in the build file; there are app, base, worker");
    request.targets = Vec::new();
    let error = bench.build(&request).unwrap_err().to_string();
    assert_eq!(error, "a name cannot be that of 3 images; choose one of them");
}

#[test]
fn files_of_images_are_contents() {
    let bench = Bench::new(&TREES);
    let images = bench.images(
        "[[image]]\nid = 'build'\ncontents = ['one']\n[[image]]\nname = 'x'\n\
         contents = [{ image = 'build', src = '/dir', dest = '/opt' }, { image = 'build', src = '/a', dest = '/opt' }]\n",
    );
    let [image] = &images[..] else { panic!("one image") };
    assert_eq!(listing(image).0, ["opt", "opt/a", "opt/b"]);
    let error = bench.error(
        "[[image]]\nid = 'build'\ncontents = ['one']\n[[image]]\nname = 'x'\ncontents = [{ image = 'build', src = '/x' }]\n",
        &["oci:out"],
    );
    assert_eq!(error, "image 1, layer 1: \"x\" is not in the image");
}

#[test]
fn a_difference_deletes_what_is_not_in_it() {
    let bench = Bench::new(&TREES);
    let images = bench.images(
        "[[image]]\ncontents = ['one']\n[[image]]\nname = 'x'\nparent = 0\ncontents = ['two']\ndifference = true\n",
    );
    let [image] = &images[..] else { panic!("one image") };
    assert_eq!(
        listing(image),
        (vec!["a".to_owned(), "c".to_owned()], vec!["c".to_owned(), ".wh.dir".to_owned()])
    );
}

#[test]
fn layers_are_squashed() {
    let bench = Bench::new(&TREES);
    for (squash, layers) in [("false", 3), ("true", 2), ("'all'", 1)] {
        let images = bench.images(&FAMILY.replace("comment = 'why'", &format!("squash = {squash}")));
        assert_eq!(images[0].image.layers.len(), layers, "{squash}");
        assert_eq!(images[0].image.config.rootfs.diff_ids.len(), layers, "{squash}");
        assert_eq!(listing(&images[0]).0, ["a", "c"], "{squash}");
        let entries = images[0].image.config.history.iter().filter(|entry| !entry.empty_layer).count();
        assert_eq!(entries, layers, "{squash}");
    }
}

#[test]
fn a_finished_layer_keeps_its_digest() {
    let bench = Bench::new(&TREES);
    let [image] = &bench.images("contents = ['one']\n")[..] else { panic!("one image") };
    let layer = &image.image.layers[0];
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut layer.reader(), &mut bytes).unwrap();
    let gzip = kiln_image::compress::piece(kiln_image::compress::Compression::GZIP, &bytes);
    for bytes in [bytes, gzip] {
        fs::write(bench.directory.path().join("layer.tar"), bytes).unwrap();
        let [taken] = &bench.images("tar = 'layer.tar'\n")[..] else { panic!("one image") };
        assert_eq!(taken.image.layers[0].diff_id, layer.diff_id);
    }
    fs::write(bench.directory.path().join("layer.tar"), [1; 512]).unwrap();
    let error = bench.error("tar = 'layer.tar'\n", &["oci:out"]);
    assert_eq!(error, "/layer.tar: it is no layer");
}

#[test]
fn what_is_said_of_an_image_is_in_its_configuration() {
    let bench = Bench::new(&TREES);
    let [image] = &bench.images(
        "platform = 'linux/arm64/v8'\nos-version = '1'\nos-features = ['x']\ncreated = '2020-01-01T00:00:00Z'\n",
    )[..] else {
        panic!("one image")
    };
    let json = serde_json::to_value(&image.image.config).unwrap();
    for (key, expected) in [
        ("architecture", "\"arm64\""),
        ("variant", "\"v8\""),
        ("os.version", "\"1\""),
        ("os.features", "[\"x\"]"),
        ("created", "\"2020-01-01T00:00:00Z\""),
    ] {
        assert_eq!(json[key].to_string(), expected, "{key}");
    }
}

#[test]
fn options_of_one_format_are_refused_by_the_other() {
    let bench = Bench::new(&[]);
    let (docker, oci) = ("[config]\nMemory = '1MiB'\n", "[annotations]\na = 'b'\n");
    assert_eq!(
        bench.error(docker, &["oci:out"]),
        "/kiln.toml:2:10: `Memory` is docker's; OCI images have no such option, and oci:out is to be an OCI image\n   \
         2 | Memory = '1MiB'\n     |          ^"
    );
    let error = bench.error(oci, &["docker-archive:x.tar"]);
    assert!(
        error.contains("annotations are OCI's; docker's formats have none, and docker-archive:x.tar"),
        "{error}"
    );
    for (text, dialect) in
        [(docker, kiln_image::manifest::Dialect::Docker), (oci, kiln_image::manifest::Dialect::Oci)]
    {
        bench.build(&bench.request(text, &["docker://example.org/a:1"])).unwrap();
        assert_eq!(bench.places.written.lock().unwrap().pop().unwrap().1.dialect, Some(dialect));
    }
}

#[test]
fn scripts_of_other_architectures_are_refused_before_anything_runs() {
    let bench = Bench::new(&TREES);
    let text = "[[image]]\nplatform = 'linux/arm64'\ncontents = ['one']\n[[image]]\nid = 'x'\nparent = 0\nrun-as-root = 'true'\n";
    assert_eq!(
        bench.error(text, &["oci:out"]),
        "image x has scripts, which cannot be run for arm64: the VM is amd64"
    );
    assert!(bench.phases.lock().unwrap().is_empty());
}

#[test]
fn inputs_are_known_by_their_digests() {
    let bench = Bench::new(&TREES);
    let mut request = bench.request("contents = ['one', { src = 'two', dest = '/x' }]\n", &["oci:out"]);
    request.attestations.provenance = true;
    let once = bench.build(&request).unwrap().inputs;
    let what: Vec<_> = once.iter().map(|input| input.what).collect();
    assert_eq!(what, ["build-file", "contents", "contents"]);
    assert_eq!(once, bench.build(&request).unwrap().inputs);
    fs::write(bench.directory.path().join("one/a"), "changed").unwrap();
    let again = bench.build(&request).unwrap().inputs;
    assert_ne!(once[1].digest, again[1].digest);
    assert_eq!(once[2], again[2]);
}

#[test]
fn outputs_need_each_their_own_place() {
    let bench = Bench::new(&[]);
    let error = bench.error("", &["docker-archive:-", "oci-archive:-"]);
    assert_eq!(error, "standard output can take one output only");
    assert_eq!(bench.error("", &[]), "there is no output");
}

#[test]
fn the_file_says_where_images_go_unless_the_command_line_does() {
    let bench = Bench::new(&[]);
    let text = "[[image]]\nid = 'a'\nname = 'a'\n[[image]]\nname = 'b'\n[[output]]\ntype = 'oci'\ndest = 'x'\nimages = ['a']\n";
    bench.build(&bench.request(text, &[])).unwrap();
    let (images, spec) = bench.places.written.lock().unwrap().pop().unwrap();
    assert_eq!((images.len(), images[0].names[0].to_string()), (1, "a:latest".to_owned()));
    assert!(spec.dest.to_string().ends_with("/x"));
    bench.build(&bench.request(text, &["oci:y"])).unwrap();
    assert_eq!(bench.places.written.lock().unwrap().pop().unwrap().0.len(), 2);
}

#[test]
fn an_interrupted_build_ends() {
    let bench = Bench::new(&TREES);
    let request = bench.request("contents = ['one']\n", &["oci:out"]);
    let interrupt = Interrupt::default();
    interrupt.trigger(Reason::Signal(2));
    let observer = |_: Event<'_>| {};
    let error = build(&request, &bench.places.store, &bench.places, &interrupt, &observer).unwrap_err();
    assert_eq!(error.class(), crate::Class::Interrupted(2));
    assert!(bench.places.written.lock().unwrap().is_empty());
}

#[test]
fn a_base_from_elsewhere_is_imported_once() {
    let bench = Bench::new(&TREES);
    let [image] = &bench.images("name = 'x'\ncontents = ['one']\n")[..] else { panic!("one image") };
    let mut archive = Vec::new();
    let mut layers = Layers(image);
    kiln_image::docker_archive::write(
        &mut archive,
        kiln_image::compress::Compression::None,
        &image.image.config_json,
        &[],
        &mut layers,
    )
    .unwrap();
    fs::write(bench.directory.path().join("base.tar"), archive).unwrap();
    let images = bench.images(
        "[[image]]\nname = 'a'\nfrom = 'base.tar'\ncontents = ['two']\n[[image]]\nname = 'b'\nfrom = 'base.tar'\ncontents = ['one']\n",
    );
    assert_eq!(*bench.places.imports.lock().unwrap(), 1);
    assert_eq!(
        listing(&images[0]),
        (["a", "c", "dir", "dir/b"].map(str::to_owned).to_vec(), vec!["c".to_owned()])
    );
    assert!(listing(&images[1]).1.is_empty());
}

struct Layers<'a>(&'a OutputImage);

impl kiln_image::docker_archive::LayerSource for Layers<'_> {
    type Reader = kiln_store::SegmentReader;

    fn open(
        &mut self,
        diff_id: &Digest,
    ) -> std::io::Result<kiln_image::docker_archive::StoredLayer<Self::Reader>> {
        let layer = self.0.image.layers.iter().find(|layer| layer.diff_id == *diff_id).unwrap();
        Ok(kiln_image::docker_archive::StoredLayer { size: layer.length, bytes: layer.reader() })
    }
}

fn text(image: &OutputImage, path: &str) -> String {
    let files = crate::contents::Files::of(&image.image.layers).unwrap();
    let sources = crate::contents::Sources::new(STORE.get().unwrap(), &files.layers);
    let bytes = sources.with_reader(|read| {
        kiln_attest::Files::read(&kiln_attest::TreeFiles::new(&files.tree, read), path.as_bytes(), 1 << 20)
    });
    String::from_utf8(bytes.unwrap().expect("the file is there")).unwrap()
}

/// Any store will do to read layers that are open.
static STORE: std::sync::OnceLock<Store> = std::sync::OnceLock::new();

fn owners(image: &OutputImage) -> Vec<(u32, u32)> {
    let files = crate::contents::Files::of(&image.image.layers).unwrap();
    let owner = |id| {
        let metadata = &files.tree.node(id).metadata;
        (metadata.uid, metadata.gid)
    };
    files.tree.walk().skip(1).map(|(_, id)| owner(id)).collect()
}

#[test]
fn shadow_setup_and_passwords_are_laid_under_and_over() {
    let bench = Bench::new(&[("one/etc/group", "mine:x:0:\n"), ("password", "secret\nignored")]);
    let _ = STORE.set(bench.places.store.clone());
    let build =
        || bench.images("shadow-setup = true\ncontents = ['one']\nroot-password = { file = 'password' }\n");
    let [image] = &build()[..] else { panic!("one image") };
    assert_eq!(text(image, "etc/group"), "mine:x:0:\n");
    assert!(text(image, "etc/passwd").starts_with("root:x:0:0::/root:"));
    let shadow = text(image, "etc/shadow");
    assert!(shadow.starts_with("root:$6$") && !shadow.contains("secret"), "{shadow}");
    assert_eq!(image.image.layers.len(), 3);
    let said: Vec<_> =
        image.image.config.history.iter().filter_map(|entry| entry.created_by.clone()).collect();
    assert_eq!(said, ["shadow-setup", "kiln build", "root-password"]);
    assert_eq!(build()[0].image.image_id, image.image.image_id);
    let error = bench.error("root-password = { env = 'KILN_TEST_NOT_SET' }\n", &["oci:out"]);
    assert_eq!(error, "the variable KILN_TEST_NOT_SET, which has root's password, is not set");
    let hash = &bench.images("root-password = { hash = '$y$j9T$salt$hash' }\n")[0];
    assert_eq!(text(hash, "etc/shadow"), "root:$y$j9T$salt$hash:::::::\n");
}

#[test]
fn owners_get_other_numbers_in_one_layer() {
    let bench = Bench::new(&TREES);
    let images = bench.images(
        &FAMILY.replace("comment = 'why'", "uid-map = ['0:1000:10']\ngid-map = ['0:2000:1', '5:6:1']"),
    );
    assert_eq!(images[0].image.layers.len(), 1);
    assert_eq!(owners(&images[0]), [(1000, 2000); 2]);
    assert_eq!(owners(&images[1]), [(0, 0); 3]);
}

#[test]
fn contents_are_split_into_layers_that_images_share() {
    let files = [
        ("one/usr/bin/a", "a"),
        ("one/usr/lib/b", "b"),
        ("one/etc/c", "c"),
        ("two/usr/bin/a", "a"),
        ("two/usr/lib/b", "changed"),
        ("two/etc/c", "c"),
    ];
    let bench = Bench::new(&files);
    let images = bench.images(
        "[[image]]\nname = 'one'\ncontents = ['one']\nlayered = 3\n[[image]]\nname = 'two'\ncontents = ['two']\nlayered = { max-layers = 3 }\n\
         [[image]]\nname = 'child'\nparent = 0\ndelete = ['/etc/c']\ncontents = ['two']\nlayered = 3\n",
    );
    let [one, two, child] = &images[..] else { panic!("three images") };
    assert_eq!((one.image.layers.len(), two.image.layers.len()), (3, 3));
    let shared = one
        .image
        .layers
        .iter()
        .filter(|layer| two.image.layers.iter().any(|other| other.diff_id == layer.diff_id));
    assert!(shared.count() >= 1);
    assert_eq!(listing(one).0, listing(two).0);
    assert!(child.image.layers.len() <= 6 && !listing(child).0.is_empty());
    assert_eq!(child.image.config.rootfs.diff_ids.len(), child.image.layers.len());
}

#[test]
fn store_paths_that_others_need_are_lowest() {
    let (app, lib) = ("a".repeat(32), "b".repeat(32));
    let (app_file, lib_file) =
        (format!("one/nix/store/{app}-app/bin"), format!("one/nix/store/{lib}-lib/so"));
    let needs = format!("/nix/store/{lib}-lib/so");
    let bench = Bench::new(&[(&app_file, &needs), (&lib_file, "")]);
    let [image] = &bench.images("contents = ['one']\nlayered = 3\n")[..] else { panic!("one image") };
    let paths = |number: usize| -> String {
        let mut reader = image.image.layers[number].headers().unwrap();
        let paths = reader.entries().map(|entry| String::from_utf8(entry.unwrap().entry.path).unwrap());
        paths.collect::<Vec<_>>().join(" ")
    };
    assert!(paths(0).ends_with("-lib/so"), "{}", paths(0));
    assert!(paths(1).ends_with("-app/bin"), "{}", paths(1));
}

#[test]
fn documents_are_attached_where_there_are_referrers() {
    let bench = Bench::new(&TREES);
    let mut request = bench.request("name = 'x'\ncontents = ['one']\n", &["oci:out", "docker-archive:x.tar"]);
    request.attestations =
        Attestations { sbom: Some(crate::SbomFormat::SpdxJson), provenance: true, attach: true };
    let built = bench.build(&request).unwrap();
    let types: Vec<_> =
        built.images[0].documents.iter().map(|document| document.artifact_type.as_str()).collect();
    assert_eq!(types, ["application/spdx+json", "application/vnd.in-toto+json"]);
    let written = bench.places.written.lock().unwrap();
    let attached = &written[0].0[0].attachments;
    assert_eq!((attached.len(), &attached[0]), (2, &built.images[0].documents[0]));
    let of_image = String::from_utf8(attached[1].bytes.clone()).unwrap();
    assert!(of_image.contains(&built.image_digests()[0]), "{of_image}");
    assert!(written[1].0[0].attachments.is_empty());
    let provenance = String::from_utf8(built.images[0].documents[1].bytes.clone()).unwrap();
    assert!(!provenance.contains(&bench.directory.path().display().to_string()), "{provenance}");
    assert!(provenance.contains(&Digest::of(b"manifest").hex()), "{provenance}");
}

impl Built {
    fn image_digests(&self) -> Vec<String> {
        self.images.iter().map(|image| image.image_id.hex()).collect()
    }
}

#[test]
fn a_finished_layer_of_overlayfs_becomes_one_of_images() {
    use kiln_image::{
        entry::{Entry, Kind as EntryKind, Metadata},
        tar::Writer,
    };
    let bench = Bench::new(&TREES);
    let mut tar = Writer::new(Vec::new());
    let whiteout = EntryKind::CharacterDevice { major: 0, minor: 0 };
    tar.begin(&Entry { path: b"a".to_vec(), metadata: Metadata::default(), kind: whiteout }).unwrap();
    fs::write(bench.directory.path().join("layer.tar"), tar.finish().unwrap()).unwrap();
    let images = bench.images("name = 'x'\n[[layer]]\ncontents = ['one']\n[[layer]]\ntar = 'layer.tar'\n");
    assert_eq!(listing(&images[0]), (vec!["dir".to_owned(), "dir/b".to_owned()], vec![".wh.a".to_owned()]));
}

#[test]
fn a_base_for_another_machine_is_refused() {
    let bench = Bench::new(&TREES);
    let [image] = &bench.images("contents = ['one']\n")[..] else { panic!("one image") };
    let mut archive = Vec::new();
    let none = kiln_image::compress::Compression::None;
    let json = &image.image.config_json;
    kiln_image::docker_archive::write(&mut archive, none, json, &[], &mut Layers(image)).unwrap();
    fs::write(bench.directory.path().join("base.tar"), archive).unwrap();
    let error = bench.error("from = 'base.tar'\nplatform = 'linux/arm64'\n", &["oci:out"]);
    assert_eq!(error, "/base.tar is for linux/amd64, not for linux/arm64");
}
