//! Against Debian's docker-registry, as it is and with faults on the way; skopeo looks at what was pushed.

use kiln_image::config::ImageConfig;
use kiln_image::digest::Digest;
use kiln_image::manifest::{Descriptor, Dialect, Document, Manifest, media_type};
use kiln_image::reference::RegistryReference;
use kiln_registry::{Client, Credentials, Error, Mirror, Notify, Pushed, Settings};
use kiln_test_registry::{Action, Options, Proxy, Registry, Rule};
use std::io::{self, Cursor, Read};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// As tests want it: quick.
fn settings() -> Settings {
    Settings {
        tls_verify: false,
        backoff: Duration::from_millis(10),
        idle_timeout: Duration::from_secs(2),
        ..Settings::default()
    }
}

fn client(settings: Settings) -> Client {
    Client::new(settings).unwrap()
}

fn reference(address: &str, rest: &str) -> RegistryReference {
    format!("{address}/{rest}").parse().unwrap()
}

/// Bytes that do not compress or repeat.
fn blob(length: usize) -> (Vec<u8>, Descriptor) {
    let mut state = 88_172_645_463_325_252_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(length)
    .collect();
    let descriptor = Descriptor::new(media_type::OCI_LAYER, Digest::of(&bytes), bytes.len() as u64);
    (bytes, descriptor)
}

fn opener(bytes: &[u8]) -> impl Fn(u64) -> io::Result<Box<dyn Read + Send>> {
    let bytes = bytes.to_vec();
    move |offset| Ok(Box::new(Cursor::new(bytes[usize::try_from(offset).unwrap()..].to_vec())))
}

fn read(client: &Client, repository: &RegistryReference, blob: &Descriptor) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut reader = client.blob(repository, blob).map_err(|error| error.to_string())?;
    reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Pushes an image of an empty configuration and one layer; gives its manifest.
fn push_image(client: &Client, to: &RegistryReference) -> Document {
    let (layer, layer_descriptor) = blob(200_000);
    let mut config = ImageConfig::scratch("amd64", "linux");
    config.rootfs.diff_ids = vec![layer_descriptor.digest];
    let config = config.to_json();
    let config_descriptor = Descriptor::new(media_type::OCI_CONFIG, Digest::of(&config), config.len() as u64);
    for (bytes, descriptor) in [(&layer, &layer_descriptor), (&config, &config_descriptor)] {
        client.push_blob(to, descriptor, &opener(bytes), &[]).unwrap();
    }
    let manifest = Manifest::new(Dialect::Oci, config_descriptor, vec![layer_descriptor]).to_document();
    client.push_manifest(to, &manifest).unwrap();
    manifest
}

fn skopeo(words: &[&str]) -> String {
    let output = Command::new("skopeo")
        .env("XDG_RUNTIME_DIR", std::env::temp_dir())
        .args(words)
        .output()
        .expect("skopeo: scripts/prepare test installs it");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_image_goes_there_and_comes_back() {
    let registry = Registry::plain();
    let (client, image) = (client(settings()), reference(&registry.address(), "a/b:1"));
    let manifest = push_image(&client, &image);
    let fetched = client.manifest(&image).unwrap();
    assert_eq!((fetched.bytes, fetched.digest), (manifest.bytes.clone(), manifest.digest));
    assert_eq!(fetched.media_type, media_type::OCI_MANIFEST);
    let (layer, descriptor) = blob(200_000);
    assert_eq!(read(&client, &image, &descriptor).unwrap(), layer);
    assert_eq!(client.tags(&image).unwrap(), ["1"]);
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{image}")]);
    assert_eq!(raw.as_bytes(), manifest.bytes);
    let by_digest = reference(&registry.address(), &format!("a/b@{}", manifest.digest));
    assert_eq!(client.manifest(&by_digest).unwrap().digest, manifest.digest);
    let other = reference(&registry.address(), &format!("a/b@{}", Digest::of(b"other")));
    assert!(client.manifest(&other).unwrap_err().is_not_found());
}

#[test]
fn blobs_that_are_there_or_near_are_not_sent() {
    let registry = Registry::plain();
    let (client, first) = (client(settings()), reference(&registry.address(), "first:1"));
    let (bytes, descriptor) = blob(70_000);
    assert!(!client.has_blob(&first, &descriptor).unwrap());
    assert_eq!(client.push_blob(&first, &descriptor, &opener(&bytes), &[]).unwrap(), Pushed::Uploaded);
    assert_eq!(client.push_blob(&first, &descriptor, &opener(&bytes), &[]).unwrap(), Pushed::Existed);
    let second = reference(&registry.address(), "second:1");
    let never = |_| -> io::Result<Box<dyn Read + Send>> { panic!("it need not be sent") };
    assert_eq!(client.push_blob(&second, &descriptor, &never, &[first]).unwrap(), Pushed::Mounted);
    // A source that has it not opens a session instead.
    let (third, nothing) =
        (reference(&registry.address(), "third:1"), reference(&registry.address(), "nothing:1"));
    assert_eq!(client.push_blob(&third, &descriptor, &opener(&bytes), &[nothing]).unwrap(), Pushed::Uploaded);
    assert_eq!(read(&client, &second, &descriptor).unwrap(), bytes);
}

#[test]
fn blobs_go_in_pieces() {
    let registry = Registry::plain();
    let proxy = Proxy::start(&registry.address(), []);
    let client = client(Settings { chunk_size: Some(10_000), ..settings() });
    let image = reference(&proxy.address(), "pieces:1");
    let (bytes, descriptor) = blob(45_000);
    assert_eq!(client.push_blob(&image, &descriptor, &opener(&bytes), &[]).unwrap(), Pushed::Uploaded);
    assert_eq!(proxy.count("PATCH"), 5);
    assert_eq!(read(&client, &image, &descriptor).unwrap(), bytes);
}

#[test]
fn tls_and_passwords() {
    let registry = Registry::with(Options { tls: true, user: Some(("me", "correct horse")) });
    let image = reference(&registry.address(), "secret:1");
    let verified = Settings {
        tls_verify: true,
        certificate_directories: vec![registry.certificate_directory()],
        ..settings()
    };
    let with_file = Settings { auth_files: vec![registry.auth_file()], ..verified.clone() };
    push_image(&client(with_file), &image);
    let (user, password) = ("me".to_owned(), "wrong".to_owned());
    for (settings, expected) in [
        (verified.clone(), "401"),
        (Settings { credentials: Some(Credentials { user, password }), ..verified.clone() }, "401"),
        (Settings { certificate_directories: Vec::new(), ..verified }, "certs.d"),
    ] {
        let error = client(settings).manifest(&image).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("wrong"), "{error}");
    }
    // Any certificate.
    let unverified = Settings { auth_files: vec![registry.auth_file()], ..settings() };
    client(unverified).manifest(&image).unwrap();
}

#[test]
fn a_registry_without_tls_is_not_talked_to_unasked() {
    let registry = Registry::plain();
    let client = client(Settings { tls_verify: true, ..settings() });
    let error = client.manifest(&reference(&registry.address(), "a:1")).unwrap_err().to_string();
    assert!(error.contains("--tls-verify=false"), "{error}");
}

/// A registry with an image, a proxy in front of it, a client, and what the client said meanwhile.
struct Scene {
    _registry: Registry,
    proxy: Proxy,
    client: Client,
    image: RegistryReference,
    layer: (Vec<u8>, Descriptor),
    said: Arc<Mutex<Vec<String>>>,
}

fn scene(rules: Vec<Rule>) -> Scene {
    let registry = Registry::plain();
    push_image(&client(settings()), &reference(&registry.address(), "app:1"));
    let proxy = Proxy::start(&registry.address(), rules);
    let said = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&said);
    let notify = Notify::new(move |text| taken.lock().unwrap().push(text.to_owned()));
    let client = client(Settings { notify, ..settings() });
    let image = reference(&proxy.address(), "app:1");
    Scene { _registry: registry, proxy, client, image, layer: blob(200_000), said }
}

fn status(status: u16) -> Action {
    Action::Answer { status, headers: Vec::new(), body: String::new() }
}

#[test]
fn faults_that_pass_are_waited_out() {
    let retry_after =
        Action::Answer { status: 429, headers: vec!["Retry-After: 0".into()], body: String::new() };
    for (name, action, times) in [
        ("500", status(500), 2),
        ("502", status(502), 1),
        ("503", status(503), 3),
        ("429", retry_after, 2),
        ("cut before the first byte", Action::Cut(0), 2),
        ("cut", Action::Cut(100_000), 3),
        ("stalled", Action::Stall(50_000), 1),
        ("cut, and no ranges", Action::Cut(150_000), 1),
        ("slow", Action::Drip(40_000, Duration::from_millis(100)), 9),
        ("longer", Action::Length(10), 0),
    ] {
        let mut rules = vec![Rule::new("GET", "/blobs/", times, action)];
        if name == "cut, and no ranges" {
            rules.push(Rule::new("GET", "/blobs/", 9, Action::IgnoreRange));
        }
        let scene = scene(rules);
        assert_eq!(read(&scene.client, &scene.image, &scene.layer.1), Ok(scene.layer.0.clone()), "{name}");
        let waited = !scene.said.lock().unwrap().is_empty();
        assert_eq!(waited, !["slow", "longer"].contains(&name), "{name}: {:?}", scene.said);
    }
}

#[test]
fn what_was_there_is_not_fetched_again() {
    let scene = scene(vec![Rule::new("GET", "/blobs/", 1, Action::Cut(120_000))]);
    read(&scene.client, &scene.image, &scene.layer.1).unwrap();
    let seen = scene.proxy.seen();
    assert_eq!(seen.last().unwrap().header("range"), Some("bytes=120000-"));
}

#[test]
fn faults_that_stay_are_errors() {
    let redirect = |to: &str| Action::Answer {
        status: 307,
        headers: vec![format!("Location: {to}")],
        body: String::new(),
    };
    let denied = r#"{"errors": [{"code": "DENIED", "message": "not\u001b[2J for you"}]}"#;
    let denied = Action::Answer { status: 403, headers: Vec::new(), body: denied.into() };
    for (action, expected) in [
        (status(404), "404"),
        (status(400), "400"),
        (status(500), "tried 4 times, last: 500"),
        (denied, "403, not[2J for you; see --creds"),
        (Action::Cut(0), "should have 200000 bytes, but has 0"),
        (Action::Length(5), "should have 200000 bytes, but has 200005"),
        (Action::Length(-5), "should have 200000 bytes, but has 199995"),
        (Action::Flip(70_000), "digest mismatch: blob sha256:"),
        (redirect("/v2/app/blobs/loop"), "it redirects in a loop"),
        (redirect("ftp://x/"), "which is no URL"),
    ] {
        let scene = scene(vec![Rule::new("GET", "/blobs/", 99, action)]);
        let error = read(&scene.client, &scene.image, &scene.layer.1).unwrap_err();
        assert!(error.contains(expected), "{expected:?} is not in {error:?}");
    }
}

#[test]
fn manifests_are_what_their_digest_says() {
    for (action, times, expected) in [
        (Action::Flip(30), 1, "digest mismatch"),
        (Action::Header("Docker-Content-Digest", Digest::of(b"x").to_string()), 1, "digest mismatch"),
        (Action::Length(-1), 9, "digest mismatch"),
        (status(503), 9, "tried 4 times"),
    ] {
        let scene = scene(vec![Rule::new("GET", "/manifests/", times, action)]);
        let error = scene.client.manifest(&scene.image).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected:?} is not in {error:?}");
    }
    for action in [Action::Cut(20), Action::Stall(20), status(502)] {
        let scene = scene(vec![Rule::new("GET", "/manifests/", 1, action)]);
        scene.client.manifest(&scene.image).unwrap();
    }
}

#[test]
fn passwords_do_not_follow_redirects() {
    let other = Proxy::start("localhost:1", [Rule::new("", "", 99, status(404))]);
    let registry = Registry::with(Options { user: Some(("me", "secret")), ..Options::default() });
    let away = Action::Answer {
        status: 307,
        headers: vec![format!("Location: http://{}/elsewhere", other.address())],
        body: String::new(),
    };
    let settings = Settings {
        credentials: Some(Credentials { user: "me".into(), password: "secret".into() }),
        ..settings()
    };
    let proxy = Proxy::start(&registry.address(), [Rule::new("GET", "/blobs/", 9, away)]);
    let (client, image) = (client(settings), reference(&proxy.address(), "app:1"));
    // So that the client has shown who it is.
    assert!(client.manifest(&image).unwrap_err().is_not_found());
    assert!(read(&client, &image, &blob(10).1).is_err());
    let seen = other.seen();
    assert!(!seen.is_empty() && seen.iter().all(|request| request.header("authorization").is_none()));
    assert!(proxy.seen().iter().any(|request| request.header("authorization").is_some()));
}

#[test]
fn pushes_survive_faults() {
    for (name, rules, chunk_size) in [
        ("500 at the start", vec![Rule::new("POST", "/uploads/", 2, status(500))], None),
        ("500 at the end", vec![Rule::new("PUT", "/uploads/", 2, status(500))], None),
        ("cut on the way", vec![Rule::new("PUT", "/uploads/", 1, Action::CutRequest(10_000))], None),
        ("a lost session", vec![Rule::new("PUT", "/uploads/", 1, status(404))], None),
        ("a piece cut", vec![Rule::new("PATCH", "/uploads/", 1, Action::CutRequest(5_000))], Some(20_000)),
        ("a piece refused for now", vec![Rule::new("PATCH", "/uploads/", 2, status(503))], Some(20_000)),
        (
            "the session lost between pieces",
            vec![Rule::new("PATCH", "/uploads/", 1, status(404))],
            Some(20_000),
        ),
        ("a manifest too many", vec![Rule::new("PUT", "/manifests/", 2, status(429))], None),
    ] {
        let registry = Registry::plain();
        let proxy = Proxy::start(&registry.address(), rules);
        let client = client(Settings { chunk_size, ..settings() });
        let image = reference(&proxy.address(), "app:1");
        let manifest = push_image(&client, &image);
        let raw = skopeo(&[
            "inspect",
            "--tls-verify=false",
            "--raw",
            &format!("docker://{}/app:1", registry.address()),
        ]);
        assert_eq!(raw.as_bytes(), manifest.bytes, "{name}");
        let (bytes, descriptor) = blob(200_000);
        assert_eq!(read(&client, &reference(&registry.address(), "app:1"), &descriptor), Ok(bytes), "{name}");
    }
}

#[test]
fn wrong_bytes_are_not_pushed() {
    let registry = Registry::plain();
    let (client, image) = (client(settings()), reference(&registry.address(), "app:1"));
    let (bytes, descriptor) = blob(50_000);
    let mut flipped = bytes.clone();
    flipped[40_000] ^= 1;
    for wrong in [flipped, bytes[..49_999].to_vec()] {
        assert!(client.push_blob(&image, &descriptor, &opener(&wrong), &[]).is_err());
        assert!(!client.has_blob(&image, &descriptor).unwrap());
    }
}

#[test]
fn mirrors_are_asked_first_and_the_registry_last() {
    let (registry, mirror) = (Registry::plain(), Registry::plain());
    let at_registry = reference(&registry.address(), "team/app:1");
    push_image(&client(settings()), &at_registry);
    let said = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&said);
    let settings = Settings {
        mirrors: vec![Mirror {
            prefix: format!("{}/team", registry.address()),
            location: format!("{}/cached", mirror.address()),
            tls_verify: false,
        }],
        notify: Notify::new(move |text| taken.lock().unwrap().push(text.to_owned())),
        ..settings()
    };
    let mirrored = client(settings);
    // The mirror has nothing.
    let (bytes, descriptor) = blob(200_000);
    mirrored.manifest(&at_registry).unwrap();
    assert_eq!(read(&mirrored, &at_registry, &descriptor).unwrap(), bytes);
    assert_eq!(said.lock().unwrap().len(), 2);
    // Now it has all, and the registry is gone.
    push_image(&client(self::settings()), &reference(&mirror.address(), "cached/app:1"));
    drop(registry);
    mirrored.manifest(&at_registry).unwrap();
    assert_eq!(read(&mirrored, &at_registry, &descriptor).unwrap(), bytes);
}

#[test]
fn referrers_are_listed_also_where_the_registry_keeps_no_list() {
    let registry = Registry::plain();
    let (client, image) = (client(settings()), reference(&registry.address(), "app:1"));
    let subject = push_image(&client, &image);
    assert_eq!(client.referrers(&image, &subject.digest).unwrap(), []);
    let (empty, text) = (b"{}".to_vec(), b"{\"sbom\": true}".to_vec());
    let of =
        |media_type: &str, bytes: &[u8]| Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
    let (config, document) = (of(media_type::OCI_EMPTY, &empty), of("application/spdx+json", &text));
    client.push_blob(&image, &config, &opener(&empty), &[]).unwrap();
    client.push_blob(&image, &document, &opener(&text), &[]).unwrap();
    let mut manifest = Manifest::new(Dialect::Oci, config, vec![document]);
    manifest.artifact_type = Some("application/spdx+json".into());
    manifest.subject = Some(subject.descriptor());
    let manifest = manifest.to_document();
    let untagged = reference(&registry.address(), &format!("app@{}", manifest.digest));
    for _ in 0..2 {
        client.push_manifest(&untagged, &manifest).unwrap();
    }
    let referrers = client.referrers(&image, &subject.digest).unwrap();
    assert_eq!(referrers.len(), 1);
    assert_eq!(referrers[0].artifact_type.as_deref(), Some("application/spdx+json"));
}

/// Errors can be sent from thread to thread, as copies work in several.
#[test]
fn errors_are_for_threads() {
    fn takes<T: Send + Sync + 'static>() {}
    takes::<Error>();
    takes::<Client>();
}

fn bearer(realm: &str) -> Action {
    let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"the service\"");
    Action::Answer { status: 401, headers: vec![challenge], body: String::new() }
}

fn token(token: &str) -> Action {
    let body = format!("{{\"token\": \"{token}\", \"expires_in\": 300}}");
    Action::Answer { status: 200, headers: Vec::new(), body }
}

/// A registry with a token server, played by the proxy; and what the client had to say there.
#[test]
fn tokens_are_fetched_for_what_is_done_and_used_again() {
    let registry = Registry::plain();
    push_image(&client(settings()), &reference(&registry.address(), "app:1"));
    let directory = tempfile::tempdir().unwrap();
    let auth_file = directory.path().join("auth.json");
    for (name, auth, method) in [
        ("nobody", String::new(), "GET"),
        ("a password", r#""auth": "bWU6c2VjcmV0""#.to_owned(), "GET"),
        ("an identity token", r#""identitytoken": "refresh""#.to_owned(), "POST"),
    ] {
        let proxy = Proxy::start(
            &registry.address(),
            [
                Rule::new("", "/token", 9, token("abc")),
                Rule::new("GET", "/manifests/", 1, bearer("http://{address}/token")),
            ],
        );
        std::fs::write(&auth_file, format!(r#"{{"auths": {{"{}": {{{auth}}}}}}}"#, proxy.address())).unwrap();
        let client = client(Settings { auth_files: vec![auth_file.clone()], ..settings() });
        let image = reference(&proxy.address(), "app:1");
        client.manifest(&image).unwrap();
        read(&client, &image, &blob(200_000).1).unwrap();
        let seen = proxy.seen();
        let asked: Vec<_> = seen.iter().filter(|request| request.line.contains("/token")).collect();
        assert_eq!(asked.len(), 1, "{name}: {seen:#?}");
        assert!(asked[0].line.starts_with(method), "{name}: {}", asked[0].line);
        if method == "GET" {
            assert!(
                asked[0].line.contains("service=the%20service&scope=repository%3Aapp%3Apull"),
                "{}",
                asked[0].line
            );
        }
        let shown = asked[0].header("authorization");
        assert_eq!(shown, (name == "a password").then_some("Basic bWU6c2VjcmV0"), "{name}");
        let last = seen.last().unwrap();
        assert!(last.line.contains("/blobs/"), "{name}");
        assert_eq!(last.header("authorization"), Some("Bearer abc"), "{name}");
    }
}
