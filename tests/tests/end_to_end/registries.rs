//! Debian's docker-registry on the loopback interface: kiln pushes and skopeo pulls, and the reverse; with TLS and passwords, and
//! with faults on the way.

use kiln_test_registry::{Action, Options, Proxy, Registry, Rule};
use kiln_tests::{Image, Kiln, Room, repository};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

/// A registry that asks for a certificate's authority and a password, and what one needs to get in.
struct Secured {
    registry: Registry,
    auth_file: PathBuf,
    certificates: PathBuf,
}

impl Secured {
    fn start() -> Self {
        let registry = Registry::with(Options { tls: true, user: Some(("me", "correct horse")) });
        let (auth_file, certificates) = (registry.auth_file(), registry.certificate_directory());
        Self { registry, auth_file, certificates }
    }

    /// Options of kiln.
    fn allow(&self, kiln: Kiln) -> Kiln {
        kiln.arg("--authfile").arg(&self.auth_file).arg("--cert-dir").arg(&self.certificates)
    }

    /// An image of it, for skopeo.
    fn image(&self, name: &str) -> Image {
        let directory = self.certificates.join(self.registry.address());
        let options = [
            format!("--authfile={}", self.auth_file.display()),
            format!("--cert-dir={}", directory.display()),
        ];
        Image::at(format!("docker://{}/{name}", self.registry.address()))
            .with_options(options.iter().map(String::as_str))
    }

    fn reference(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.registry.address())
    }
}

/// An image of two layers as an OCI layout.
fn layout(room: &Room) -> String {
    room.write("app/one/etc/one", "one\n".repeat(50_000));
    room.write("app/two/etc/two", "two");
    let build_file = "
        [[image]]
        name = 'app'
        [[image.layer]]
        contents = ['one']
        [[image.layer]]
        contents = ['two']
    ";
    let context = room.context("app", None, build_file);
    let layout = format!("oci:{}:app", room.path("layout").display());
    room.kiln().args(["build", "-o", &layout]).arg(&context).run().succeeds();
    layout
}

fn copy(room: &Room, from: &str, to: &str) -> Kiln {
    room.kiln().args(["copy", "--tls-verify=false", from, to])
}

#[test]
fn kiln_pushes_and_skopeo_pulls() {
    let (room, secured) = (Room::new(), Secured::start());
    let source = layout(&room);
    let to = secured.reference("team/app:1");
    secured.allow(room.kiln().args(["copy", &source, &to])).run().succeeds();
    let image = secured.image("team/app:1");
    assert_eq!(image.raw(), Image::at(&source).raw());
    let pulled = image.copy_to(&format!("oci:{}:pulled", room.path("pulled").display()), &[]);
    let root = pulled.unpack(&room.path("root"));
    assert_eq!(fs::read_to_string(root.join("etc/two")).expect("it is there"), "two");
}

#[test]
fn skopeo_pushes_and_kiln_pulls() {
    let (room, secured) = (Room::new(), Secured::start());
    let source = layout(&room);
    let directory = secured.certificates.join(secured.registry.address());
    let (auth, certificates) = (secured.auth_file.display().to_string(), directory.display().to_string());
    let options = ["--dest-authfile", auth.as_str(), "--dest-cert-dir", certificates.as_str()];
    for (name, format) in [("oci", "oci"), ("docker", "v2s2")] {
        let to = secured.reference(&format!("{name}:1"));
        Image::at(&source).copy_to(&to, &[&options[..], &["--format", format]].concat());
        let layout = format!("oci:{}:pulled", room.path(&format!("pulled-{name}")).display());
        secured.allow(room.kiln().args(["copy", &to, &layout])).run().succeeds();
        assert_eq!(Image::at(&layout).diff_ids(), Image::at(&source).diff_ids(), "{name}");
        let context = room.context(name, None, &format!("from = '{to}'\nname = 'child'\n"));
        let output = format!("oci:{}:child", room.path(&format!("child-{name}")).display());
        secured.allow(room.kiln().args(["build", "-o", &output]).arg(&context)).run().succeeds();
        assert_eq!(Image::at(&output).diff_ids(), Image::at(&source).diff_ids(), "{name}");
    }
}

#[test]
fn who_does_not_say_who_they_are_is_refused() {
    let (room, secured) = (Room::new(), Secured::start());
    let source = layout(&room);
    let to = secured.reference("app:1");
    let certificates = |kiln: Kiln| kiln.arg("--cert-dir").arg(&secured.certificates);
    certificates(room.kiln().args(["copy", &source, &to])).run().exits_with(40).says("--creds");
    let wrong = ["copy", "--creds", "me:wrong", &source, &to];
    let outcome = certificates(room.kiln().args(wrong)).run().exits_with(40);
    assert!(!outcome.stderr.contains("wrong"), "{}", outcome.stderr);
    room.kiln()
        .args(["copy", "--creds", "me:correct horse", &source, &to])
        .run()
        .exits_with(40)
        .says("certs.d");
    certificates(room.kiln().args(["copy", "--creds", "me:correct horse", &source, &to])).run().succeeds();
}

/// The example of a child of an image in a registry: the parent's blobs are passed on, and never sent twice.
#[test]
fn a_child_of_a_pulled_image() {
    let (room, registry) = (Room::new(), Registry::plain());
    let proxy = Proxy::start(&registry.address(), []);
    let source = layout(&room);
    let parent = format!("docker://{}/debian:bookworm", proxy.address());
    copy(&room, &source, &parent).run().succeeds();
    let example = repository().join("examples/child-of-pulled");
    let text = fs::read_to_string(example.join("kiln.toml")).expect("it is there");
    let context = room.context("example", None, &text.replace("localhost:5000", &proxy.address()));
    kiln_tests::tool_output("cp", &["-r".as_ref(), example.join("tree").as_os_str(), context.as_os_str()]);
    // With an empty cache.
    let fresh = Room::new();
    let child = format!("docker://{}/child:1", proxy.address());
    let sent_before = proxy.count("PUT /v2/child/blobs/uploads/");
    fresh.kiln().args(["build", "--tls-verify=false", "-o", &child]).arg(&context).run().succeeds();
    let image = Image::at(child).with_options(["--tls-verify=false"]);
    let layers = image.manifest()["layers"].clone();
    let of_parent = Image::at(parent).with_options(["--tls-verify=false"]).manifest()["layers"].clone();
    assert_eq!(layers.as_array().expect("a list")[..2], of_parent.as_array().expect("a list")[..]);
    // The new layer and the configuration; the parent's layers were mounted.
    assert_eq!(proxy.count("PUT /v2/child/blobs/uploads/") - sent_before, 2);
    assert_eq!(image.config()["config"]["Cmd"], json!(["/usr/local/bin/child"]));
    // Nothing is fetched that the cache has.
    let before = proxy.count("GET /v2/debian/blobs/");
    let output = format!("oci:{}:again", room.path("again").display());
    fresh.kiln().args(["build", "--tls-verify=false", "-o", &output]).arg(&context).run().succeeds();
    assert_eq!(proxy.count("GET /v2/debian/blobs/"), before);
}

#[test]
fn an_index_is_pushed_and_pulled_whole() {
    let (room, registry) = (Room::new(), Registry::plain());
    let to = format!("docker://{}/hello:1", registry.address());
    let example = repository().join("examples/oci-architectures");
    room.kiln().args(["build", "--tls-verify=false", "-o", &to]).arg(example).run().succeeds();
    let image = Image::at(&to).with_options(["--tls-verify=false"]);
    let index = image.raw();
    let back = format!("oci:{}:hello", room.path("back").display());
    copy(&room, &to, &back).arg("--all").run().succeeds();
    assert_eq!(Image::at(&back).raw(), index);
    let one = format!("oci:{}:arm", room.path("one").display());
    copy(&room, &to, &one).args(["--platform", "linux/arm64"]).run().succeeds();
    assert_eq!(Image::at(&one).config()["architecture"], "arm64");
}

/// A pin names the manifest, the index or the image ID.
#[test]
fn digests_pin_what_is_pulled() {
    let (room, registry) = (Room::new(), Registry::plain());
    let name = format!("docker://{}/app", registry.address());
    copy(&room, &layout(&room), &format!("{name}:1")).run().succeeds();
    let digest =
        Image::at(format!("{name}:1")).with_options(["--tls-verify=false"]).inspect()["Digest"].clone();
    let digest = digest.as_str().expect("text").to_owned();
    let to = format!("oci:{}:x", room.path("x").display());
    copy(&room, &format!("{name}@{digest}"), &to).run().succeeds();
    let other = format!("sha256:{}", "0".repeat(64));
    copy(&room, &format!("{name}@{other}"), &to).run().fails().says("404");
}

fn status(status: u16) -> Action {
    Action::Answer { status, headers: Vec::new(), body: String::new() }
}

/// Pulls by a proxy with these rules, into an empty cache and a new layout.
fn pull_through(rules: Vec<Rule>) -> (Room, kiln_tests::Outcome, String) {
    let (room, registry) = (Room::new(), Registry::plain());
    let source = layout(&room);
    copy(&room, &source, &format!("docker://{}/app:1", registry.address())).run().succeeds();
    let proxy = Proxy::start(&registry.address(), rules);
    let fresh = Room::new();
    fresh.kiln().args(["cache", "du"]).run().succeeds();
    let to = format!("oci:{}:pulled", fresh.path("pulled").display());
    let from = format!("docker://{}/app:1", proxy.address());
    let outcome = copy(&fresh, &from, &to).args(["--retry-times", "2"]).run();
    (fresh, outcome, to)
}

#[test]
fn faults_that_pass_do_not_show_in_the_result() {
    for (name, rule) in [
        ("503", Rule::new("GET", "/blobs/", 2, status(503))),
        ("429", Rule::new("GET", "/manifests/", 1, status(429))),
        ("cut", Rule::new("GET", "/blobs/", 2, Action::Cut(100))),
        ("slow", Rule::new("GET", "/blobs/", 2, Action::Drip(200, Duration::from_millis(50)))),
    ] {
        let (room, outcome, to) = pull_through(vec![rule]);
        let outcome = outcome.succeeds();
        assert_eq!(
            outcome.stderr.contains("again") || outcome.stderr.contains("going on"),
            name != "slow",
            "{name}"
        );
        let root = Image::at(to).unpack(&room.path("root"));
        assert_eq!(fs::read(root.join("etc/one")).expect("it is there").len(), 200_000, "{name}");
    }
}

#[test]
fn faults_that_stay_leave_nothing_behind() {
    let away = Action::Answer {
        status: 307,
        headers: vec!["Location: /v2/app/blobs/x".into()],
        body: String::new(),
    };
    for (name, action) in [
        ("500", status(500)),
        ("404", status(404)),
        ("a redirect loop", away),
        ("cut", Action::Cut(0)),
        ("longer", Action::Length(7)),
        ("shorter", Action::Length(-7)),
        ("another byte", Action::Flip(100)),
    ] {
        let (_room, outcome, _) = pull_through(vec![Rule::new("GET", "/blobs/", 99, action)]);
        let outcome = outcome.fails();
        assert!(outcome.stderr.contains("sha256:"), "{name}: {}", outcome.stderr);
        outcome.leaves_nothing();
    }
}

#[test]
fn a_push_that_fails_leaves_the_tag_as_it_was() {
    let (room, registry) = (Room::new(), Registry::plain());
    let source = layout(&room);
    let tag = format!("docker://{}/app:1", registry.address());
    copy(&room, &source, &tag).run().succeeds();
    let before = Image::at(&tag).with_options(["--tls-verify=false"]).raw();
    room.write("app/two/etc/three", "three");
    let proxy = Proxy::start(&registry.address(), [Rule::new("PUT", "/uploads/", 99, status(500))]);
    let to = format!("docker://{}/app:1", proxy.address());
    let build = room
        .kiln()
        .args(["build", "--tls-verify=false", "--retry-times", "1", "-o", &to])
        .arg(room.path("app"));
    build.run().exits_with(40).says("tried 2 times");
    assert_eq!(Image::at(&tag).with_options(["--tls-verify=false"]).raw(), before);
}

#[test]
fn attestations_are_pushed_as_referrers() {
    let (room, registry) = (Room::new(), Registry::plain());
    layout(&room);
    let to = format!("docker://{}/app:1", registry.address());
    let build = room.kiln().args(["build", "--tls-verify=false", "--sbom", "--provenance", "-o", &to]);
    build.arg(room.path("app")).run().succeeds();
    let image = Image::at(&to).with_options(["--tls-verify=false"]);
    let digest = image.inspect()["Digest"].as_str().expect("text").replace(':', "-");
    let referrers = Image::at(format!("docker://{}/app:{digest}", registry.address()))
        .with_options(["--tls-verify=false"]);
    let index: Value = referrers.manifest();
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2), "{index:#}");
    // A copy with them has them too.
    let layout = room.path("copied");
    copy(&room, &to, &format!("oci:{}:x", layout.display())).arg("--referrers").run().succeeds();
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).expect("it is there")).expect("JSON");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(3), "{index:#}");
}

/// As docker calls them: `docker-credential-NAME get`, with the host on standard input.
#[test]
fn a_credential_helper_is_asked() {
    let (room, secured) = (Room::new(), Secured::start());
    let source = layout(&room);
    let script = "#!/bin/sh\nread -r host\n[ \"$1\" = get ] || exit 1\n\
                  printf '{\"ServerURL\": \"%s\", \"Username\": \"me\", \"Secret\": \"correct horse\"}' \"$host\"\n";
    let helper = room.write("bin/docker-credential-kiln-test", script);
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let auth = format!(r#"{{"credHelpers": {{"{}": "kiln-test"}}}}"#, secured.registry.address());
    let auth = room.write("auth.json", auth);
    let path = format!("{}:{}", room.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let copy = room.kiln().args(["copy", &source, &secured.reference("app:1")]).env("PATH", path);
    copy.arg("--authfile").arg(auth).arg("--cert-dir").arg(&secured.certificates).run().succeeds();
    assert_eq!(secured.image("app:1").raw(), Image::at(&source).raw());
}
