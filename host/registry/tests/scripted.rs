//! Against servers that answer as a test says: token servers, answers that lead elsewhere, and what no well-meaning registry does.

use kiln_image::digest::Digest;
use kiln_image::manifest::{Descriptor, media_type};
use kiln_image::reference::RegistryReference;
use kiln_registry::{Client, Credentials, Mirror, Pushed, Settings};
use kiln_test_registry::{Options, Registry};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A request: its first line without the version, headers in lower case, and the body.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

type Script = dyn Fn(&Seen) -> Vec<u8> + Send + Sync;

struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tls: Option<Registry>,
    certificates: Option<PathBuf>,
}

/// Status, headers and body.
fn answer(status: u16, headers: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.as_ref().len();
    let mut bytes = format!(
        "HTTP/1.1 {status} Scripted\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    .into_bytes();
    bytes.extend(body.as_ref());
    bytes
}

impl Server {
    fn plain(script: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(Arc::new(script), None)
    }

    fn tls(script: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        // For its certificate.
        Self::start(Arc::new(script), Some(Registry::with(Options { tls: true, user: None })))
    }

    fn start(script: Arc<Script>, tls: Option<Registry>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let mut config = None;
        let mut certificates = None;
        if let Some(registry) = &tls {
            let directory = registry.storage().parent().unwrap().to_owned();
            let own = directory.join("certs.d").join(format!("localhost:{port}"));
            fs::create_dir_all(&own).unwrap();
            fs::copy(registry.authority(), own.join("ca.crt")).unwrap();
            certificates = Some(directory.join("certs.d"));
            let chain = vec![CertificateDer::from_pem_file(directory.join("server.crt")).unwrap()];
            let key = PrivateKeyDer::from_pem_file(directory.join("server.key")).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            config = Some(Arc::new(
                rustls::ServerConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_no_client_auth()
                    .with_single_cert(chain, key)
                    .unwrap(),
            ));
        }
        let kept = Arc::clone(&seen);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (script, seen, config) = (Arc::clone(&script), Arc::clone(&kept), config.clone());
                thread::spawn(move || match config {
                    None => serve(client.try_clone().unwrap(), &script, &seen)
                        .and_then(|()| client.shutdown(Shutdown::Both)),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).unwrap();
                        serve(rustls::StreamOwned::new(session, client), &script, &seen)
                    }
                });
            }
        });
        Self { port, seen, _tls: tls, certificates }
    }

    fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn count(&self, line: &str) -> usize {
        self.seen().iter().filter(|seen| seen.line.starts_with(line)).count()
    }

    /// Whether a secret came here, in any place.
    fn knows(&self, secret: &str) -> bool {
        self.seen().iter().any(|seen| format!("{seen:?}").contains(secret))
    }
}

fn serve(stream: impl Read + Write, script: &Arc<Script>, seen: &Mutex<Vec<Seen>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    stream.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let request = Seen { line: lines[0].trim_end_matches(" HTTP/1.1").to_owned(), headers, body };
    seen.lock().unwrap().push(request.clone());
    stream.get_mut().write_all(&script(&request))?;
    stream.get_mut().flush()
}

fn settings() -> Settings {
    Settings {
        tls_verify: false,
        backoff: Duration::from_millis(5),
        idle_timeout: Duration::from_secs(2),
        ..Settings::default()
    }
}

fn with_password() -> Settings {
    let (user, password) = ("me".to_owned(), "secret".to_owned());
    Settings { credentials: Some(Credentials { user, password }), ..settings() }
}

/// `me:secret`, as it is sent.
const BASIC: &str = "bWU6c2VjcmV0";

fn reference(server: &Server, rest: &str) -> RegistryReference {
    format!("{}/{rest}", server.address()).parse().unwrap()
}

const MANIFEST: &str = r#"{"schemaVersion":2}"#;

fn manifest_answer() -> Vec<u8> {
    answer(200, &["Content-Type: application/vnd.oci.image.manifest.v1+json"], MANIFEST)
}

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, Digest::of(bytes), bytes.len() as u64)
}

fn opener(bytes: &[u8]) -> impl Fn(u64) -> io::Result<Box<dyn Read + Send>> {
    let bytes = bytes.to_vec();
    move |offset| Ok(Box::new(io::Cursor::new(bytes[usize::try_from(offset).unwrap()..].to_vec())))
}

fn read(client: &Client, repository: &RegistryReference, blob: &Descriptor) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut reader = client.blob(repository, blob).map_err(|error| error.to_string())?;
    reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn host(seen: &Seen) -> String {
    seen.header("host").unwrap().to_owned()
}

/// A registry that takes tokens, and gives them at `/token`, each good once in `uses`.
fn token_server(uses: usize) -> Server {
    let (given, used) = (Mutex::new(0), Mutex::new(0));
    Server::plain(move |seen| {
        let mut given = given.lock().unwrap();
        if seen.line.contains("/token") {
            *given += 1;
            *used.lock().unwrap() = 0;
            return answer(200, &[], format!(r#"{{"token": "t{given}", "expires_in": 300}}"#));
        }
        let mut used = used.lock().unwrap();
        let is_good = seen.header("authorization") == Some(&format!("Bearer t{given}")) && *used < uses;
        if !is_good {
            let bearer = format!(
                r#"WWW-Authenticate: Bearer realm="http://{}/token",service="the registry",scope="repository:a:pull""#,
                host(seen)
            );
            return answer(401, &["WWW-Authenticate: Basic realm=\"x\"", &bearer], "");
        }
        *used += 1;
        match &seen.line {
            line if line.starts_with("HEAD") => answer(404, &[], ""),
            line if line.starts_with("POST") => answer(201, &["Location: /v2/a/blobs/x"], ""),
            _ => manifest_answer(),
        }
    })
}

#[test]
fn tokens_are_fetched_kept_and_renewed() {
    let server = token_server(2);
    let client = Client::new(with_password()).unwrap();
    let image = reference(&server, "a:1");
    for (round, tokens) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        client.manifest(&image).unwrap();
        assert_eq!(server.count("GET /token"), tokens, "{round}");
    }
    let asked = server.seen().into_iter().find(|seen| seen.line.contains("/token")).unwrap();
    assert_eq!(asked.line, "GET /token?service=the%20registry&scope=repository%3Aa%3Apull");
    assert_eq!(asked.header("authorization"), Some(&*format!("Basic {BASIC}")));
    // The password goes to the token server only.
    assert!(
        server
            .seen()
            .iter()
            .filter(|seen| !seen.line.contains("/token"))
            .all(|seen| { !format!("{seen:?}").contains(BASIC) })
    );
}

#[test]
fn nobody_gets_tokens_too() {
    let server = token_server(9);
    Client::new(settings()).unwrap().manifest(&reference(&server, "a:1")).unwrap();
    let asked = server.seen().into_iter().find(|seen| seen.line.contains("/token")).unwrap();
    assert_eq!(asked.header("authorization"), None);
}

#[test]
fn identity_tokens_are_posted() {
    let server = token_server(9);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    fs::write(&file, format!(r#"{{"auths": {{"{}": {{"identitytoken": "re+fresh"}}}}}}"#, server.address()))
        .unwrap();
    let client = Client::new(Settings { auth_files: vec![file], ..settings() }).unwrap();
    client.manifest(&reference(&server, "a:1")).unwrap();
    let asked = server.seen().into_iter().find(|seen| seen.line == "POST /token").unwrap();
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    let expected = "grant_type=refresh_token&client_id=kiln&service=the%20registry&scope=repository%3Aa%3Apull&refresh_token=re%2Bfresh";
    assert_eq!(asked.body, expected);
}

#[test]
fn a_mount_asks_for_its_source_too() {
    let server = token_server(9);
    let client = Client::new(with_password()).unwrap();
    let (to, from) = (reference(&server, "a:1"), reference(&server, "b:1"));
    let bytes = b"some bytes";
    assert_eq!(client.push_blob(&to, &blob(bytes), &opener(bytes), &[from]).unwrap(), Pushed::Mounted);
    let asked = server.seen().into_iter().find(|seen| seen.line.contains("/token")).unwrap();
    assert!(
        asked.line.ends_with("&scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Ab%3Apull"),
        "{}",
        asked.line
    );
}

fn basic_challenge() -> Vec<u8> {
    answer(401, &["WWW-Authenticate: Basic realm=\"x\""], "")
}

#[test]
fn an_upload_that_is_led_elsewhere_goes_there_without_the_password() {
    let other = Server::plain(|_| basic_challenge());
    let away = other.address();
    let server = Server::plain(move |seen| match &seen.line {
        _ if seen.header("authorization").is_none() => basic_challenge(),
        line if line.starts_with("POST") => answer(202, &[&format!("Location: http://{away}/up?x=1")], ""),
        _ => answer(404, &[], ""),
    });
    let client = Client::new(Settings { retries: 0, ..with_password() }).unwrap();
    let bytes = b"some bytes";
    assert!(client.push_blob(&reference(&server, "a:1"), &blob(bytes), &opener(bytes), &[]).is_err());
    assert!(other.count("PUT") > 0, "it is asked");
    assert!(!other.knows(BASIC), "{:?}", other.seen());
}

/// A server with TLS whose answers lead to one without; gives what that one saw.
fn led_away_from_tls(
    lead: impl Fn(&Seen, &str) -> Vec<u8> + Send + Sync + 'static,
    act: impl Fn(&Client, &RegistryReference) -> String,
) -> (Server, String) {
    let other = Server::plain(|_| basic_challenge());
    let away = other.address();
    let server = Server::tls(move |seen| match seen.header("authorization") {
        None => basic_challenge(),
        Some(_) => lead(seen, &away),
    });
    let certificate_directories = vec![server.certificates.clone().unwrap()];
    let client =
        Client::new(Settings { tls_verify: true, certificate_directories, retries: 0, ..with_password() })
            .unwrap();
    let said = act(&client, &reference(&server, "a:1"));
    (other, said)
}

#[test]
fn an_upload_is_not_led_away_from_tls() {
    let bytes = b"some bytes";
    let (other, said) = led_away_from_tls(
        |seen, away| match &seen.line {
            line if line.starts_with("POST") => answer(202, &[&format!("Location: http://{away}/up")], ""),
            _ => answer(404, &[], ""),
        },
        |client, image| client.push_blob(image, &blob(bytes), &opener(bytes), &[]).unwrap_err().to_string(),
    );
    assert!(other.seen().is_empty(), "{said}: {:?}", other.seen());
    assert!(said.contains("without TLS"), "{said}");
}

#[test]
fn a_redirected_hosts_challenge_does_not_get_the_password() {
    let thief = Server::plain(|_| answer(200, &[], r#"{"token": "x"}"#));
    let realm = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\"", thief.address());
    let other = Server::plain(move |_| answer(401, &[&realm], ""));
    let away = other.address();
    let server = Server::plain(move |_| answer(307, &[&format!("Location: http://{away}/x")], ""));
    let client = Client::new(Settings { retries: 0, ..with_password() }).unwrap();
    assert!(read(&client, &reference(&server, "a:1"), &blob(b"x")).is_err());
    assert!(!thief.knows(BASIC), "{:?}", thief.seen());
}

#[test]
fn identity_tokens_do_not_follow_redirects() {
    let other = Server::plain(|_| answer(200, &[], r#"{"token": "x"}"#));
    let away = other.address();
    let server = Server::plain(move |seen| {
        if seen.line.contains("/token") {
            return answer(307, &[&format!("Location: http://{away}/token")], "");
        }
        answer(401, &[&format!("WWW-Authenticate: Bearer realm=\"http://{}/token\"", host(seen))], "")
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    fs::write(&file, format!(r#"{{"auths": {{"{}": {{"identitytoken": "refresh"}}}}}}"#, server.address()))
        .unwrap();
    let client = Client::new(Settings { auth_files: vec![file], retries: 0, ..settings() }).unwrap();
    assert!(client.manifest(&reference(&server, "a:1")).is_err());
    assert!(!other.knows("refresh_token=refresh"), "{:?}", other.seen());
}

#[test]
fn a_mirror_does_not_get_the_registrys_password() {
    let mirror = Server::plain(|_| basic_challenge());
    let server = Server::plain(|seen| match seen.header("authorization") {
        None => basic_challenge(),
        Some(_) => manifest_answer(),
    });
    let mirrors = vec![Mirror { prefix: server.address(), location: mirror.address(), tls_verify: false }];
    let client = Client::new(Settings { mirrors, ..with_password() }).unwrap();
    client.manifest(&reference(&server, "a:1")).unwrap();
    assert!(!mirror.seen().is_empty() && !mirror.knows(BASIC), "{:?}", mirror.seen());
}

#[test]
fn after_a_wrong_digest_there_is_no_end() {
    let server = Server::plain(|_| answer(200, &[], "wrong bytes"));
    let client = Client::new(settings()).unwrap();
    let mut reader = client.blob(&reference(&server, "a:1"), &blob(b"right bytes")).unwrap();
    let mut buffer = [0; 64];
    assert!(reader.read(&mut buffer).is_err());
    assert!(reader.read(&mut buffer).is_err(), "an error must not turn into an end");
}

#[test]
fn retry_after_may_be_a_date() {
    let asked = Mutex::new(0);
    let server = Server::plain(move |_| {
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        // Long ago: at once.
        let past = "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT";
        if *asked == 1 { answer(429, &[past], "") } else { manifest_answer() }
    });
    let client = Client::new(Settings { backoff: Duration::from_secs(5), ..settings() }).unwrap();
    let started = Instant::now();
    client.manifest(&reference(&server, "a:1")).unwrap();
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

/// A server without ranges that cuts each of the first answers: after 60,000 bytes, then 30,000.
fn cutting(bytes: Vec<u8>) -> Server {
    let asked = Mutex::new(0);
    Server::plain(move |seen| {
        if !seen.line.contains("/blobs/") {
            return answer(200, &[], "");
        }
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        let mut all = answer(200, &[], &bytes);
        let cut = match *asked {
            1 => 60_000,
            2 => 30_000,
            _ => all.len(),
        };
        all.truncate(cut);
        all
    })
}

#[test]
fn a_cut_while_skipping_is_a_cut() {
    let bytes: Vec<u8> =
        (0..100_000_u32).map(|index| index.to_le_bytes()[0] ^ index.to_le_bytes()[1]).collect();
    let server = cutting(bytes.clone());
    let client = Client::new(settings()).unwrap();
    assert!(read(&client, &reference(&server, "a:1"), &blob(&bytes)).is_ok_and(|read| read == bytes));
}

#[test]
fn a_prefix_that_changed_is_seen_when_skipped() {
    let bytes: Vec<u8> = vec![7; 100_000];
    let (good, asked) = (bytes.clone(), Mutex::new(0));
    let server = Server::plain(move |seen| {
        if !seen.line.contains("/blobs/") {
            return answer(200, &[], "");
        }
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        let mut body = good.clone();
        if *asked > 1 {
            body[10] = 8;
        }
        let mut all = answer(200, &[], body);
        all.truncate(if *asked == 1 { 60_000 } else { all.len() });
        all
    });
    let client = Client::new(settings()).unwrap();
    let error = read(&client, &reference(&server, "a:1"), &blob(&bytes)).unwrap_err();
    assert!(error.contains("other bytes than before"), "{error}");
}

#[test]
fn a_mirror_that_always_cuts_is_left() {
    let bytes = vec![3; 50_000];
    let (short, whole) = (bytes.clone(), bytes.clone());
    let mirror = Server::plain(move |_| {
        let mut all = answer(200, &[], &short);
        // No more than the head.
        all.truncate(all.len() - 50_000);
        all
    });
    let server = Server::plain(move |_| answer(200, &[], &whole));
    let mirrors = vec![Mirror { prefix: server.address(), location: mirror.address(), tls_verify: false }];
    let client = Client::new(Settings { mirrors, ..settings() }).unwrap();
    assert!(read(&client, &reference(&server, "a:1"), &blob(&bytes)).is_ok_and(|read| read == bytes));
}

#[test]
fn what_cannot_be_read_here_is_not_sent_again() {
    let server = Server::plain(|seen| match &seen.line {
        line if line.starts_with("POST") => answer(202, &["Location: /up"], ""),
        line if line.starts_with("PUT") => answer(201, &[], ""),
        _ => answer(404, &[], ""),
    });
    let client = Client::new(settings()).unwrap();
    let error =
        client.push_blob(&reference(&server, "a:1"), &blob(b"right"), &opener(b"wrong"), &[]).unwrap_err();
    assert_eq!(server.count("POST"), 1, "{error}");
    assert!(error.is_digest_mismatch(), "{error}");
}

#[test]
fn a_manifest_is_an_answer_200() {
    for status in [204, 304] {
        let server = Server::plain(move |_| answer(status, &[], ""));
        let error = Client::new(settings()).unwrap().manifest(&reference(&server, "a:1"));
        assert!(error.is_err(), "{status}");
    }
}

#[test]
fn a_signed_manifest_is_what_was_signed() {
    // Nothing of it is signed but what its signature quotes whole.
    let good = r#"{"schemaVersion": 1, "fsLayers": ["good"]}"#;
    let url = |text: &str| {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut out = String::new();
        for group in text.as_bytes().chunks(3) {
            let number =
                group.iter().fold(0_usize, |n, b| n << 8 | usize::from(*b)) << (8 * (3 - group.len()));
            (0..=group.len()).for_each(|i| out.push(char::from(digits[number >> (18 - 6 * i) & 63])));
        }
        out
    };
    let protected = url(&format!(r#"{{"formatLength": 0, "formatTail": "{}"}}"#, url(good)));
    let forged = format!(
        r#"{{"schemaVersion": 1, "fsLayers": ["evil"], "signatures": [{{"protected": "{protected}"}}]}}"#
    );
    let server = Server::plain(move |_| {
        answer(200, &["Content-Type: application/vnd.docker.distribution.manifest.v1+prettyjws"], &forged)
    });
    let pinned = reference(&server, &format!("a@{}", Digest::of(good.as_bytes())));
    let fetched = Client::new(settings()).unwrap().manifest(&pinned);
    assert!(fetched.is_err(), "{}", String::from_utf8_lossy(&fetched.unwrap().bytes));
}

#[test]
fn lists_have_pages_which_stay_where_they_are() {
    let server = Server::plain(|seen| match &seen.line {
        line if line.ends_with("last=b") => answer(200, &[], r#"{"tags": ["c"]}"#),
        _ => answer(200, &["Link: </v2/a/tags/list?n=2&last=b>; rel=\"next\""], r#"{"tags": ["b", "a"]}"#),
    });
    assert_eq!(Client::new(settings()).unwrap().tags(&reference(&server, "a:1")).unwrap(), ["a", "b", "c"]);
}
