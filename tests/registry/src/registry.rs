//! Debian's `docker-registry`.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A registry that does not answer by then never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a registry asks of those who come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// A certificate of an authority of its own.
    pub tls: bool,
    /// A user and a password; anybody may do anything if not given.
    pub user: Option<(&'static str, &'static str)>,
}

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    directory: TempDir,
    port: u16,
    options: Options,
}

impl Registry {
    /// Without TLS and passwords.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    pub fn plain() -> Self {
        Self::with(Options::default())
    }

    /// # Panics
    /// When it is not installed, or does not start.
    pub fn with(options: Options) -> Self {
        let directory =
            tempfile::Builder::new().prefix("kiln-registry-").tempdir().expect("a directory can be made");
        // Between asking for a free port and taking it, another may take it.
        for _ in 0..10 {
            let port = free_port();
            let configuration = configure(directory.path(), port, options);
            let mut child = start(&configuration, directory.path());
            if waits_for_answer(&mut child, port) {
                return Self { child, directory, port, options };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        panic!("docker-registry does not start:\n{log}");
    }

    /// As references have it: `localhost:5000`.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// A directory in the form of docker's `certs.d` with this registry's authority.
    pub fn certificate_directory(&self) -> PathBuf {
        self.directory.path().join("certs.d")
    }

    /// The authority's certificate, PEM.
    pub fn authority(&self) -> PathBuf {
        self.certificate_directory().join(self.address()).join("ca.crt")
    }

    /// A file in the form of docker's `config.json` with the user's name and password.
    pub fn auth_file(&self) -> PathBuf {
        let path = self.directory.path().join("auth.json");
        let (user, password) = self.options.user.unwrap_or(("nobody", "none"));
        let text = format!(
            r#"{{"auths": {{"{}": {{"username": "{user}", "password": "{password}", "auth": "{}"}}}}}}"#,
            self.address(),
            base64(format!("{user}:{password}").as_bytes())
        );
        fs::write(&path, text).expect("a file can be written");
        path
    }

    /// Where its blobs are.
    pub fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    /// What it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

fn configure(directory: &Path, port: u16, options: Options) -> PathBuf {
    let (storage, mut more) = (directory.join("storage"), String::new());
    fs::create_dir_all(&storage).expect("a directory can be made");
    if options.tls {
        let authority = directory.join("certs.d").join(format!("localhost:{port}"));
        make_certificate(directory, &authority);
        let path = |name: &str| directory.join(name).display().to_string();
        more +=
            &format!("  tls:\n    certificate: {}\n    key: {}\n", path("server.crt"), path("server.key"));
    }
    if let Some((user, password)) = options.user {
        let file = directory.join("htpasswd");
        fs::write(&file, run("htpasswd", &["-Bbn", user, password])).expect("a file can be written");
        more += &format!("auth:\n  htpasswd:\n    realm: kiln's tests\n    path: {}\n", file.display());
    }
    let configuration = directory.join("config.yml");
    let text = format!(
        "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: false\nstorage:\n  filesystem:\n    rootdirectory: {}\n  \
         delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n{more}",
        storage.display()
    );
    fs::write(&configuration, text).expect("a file can be written");
    configuration
}

/// An authority, and a certificate of its for `localhost`.
fn make_certificate(directory: &Path, of_authority: &Path) {
    fs::create_dir_all(of_authority).expect("a directory can be made");
    let path = |name: &str| directory.join(name).display().to_string();
    let (key, request, certificate) = (path("server.key"), path("server.csr"), path("server.crt"));
    let (authority_key, authority) = (path("ca.key"), of_authority.join("ca.crt").display().to_string());
    let extensions = path("extensions");
    fs::write(&extensions, "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("a file can be written");
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let words = [
        "req",
        "-x509",
        "-days",
        "2",
        "-subj",
        "/CN=kiln's tests",
        "-keyout",
        &authority_key,
        "-out",
        &authority,
    ];
    run("openssl", &[&words[..], &new_key].concat());
    let words = ["req", "-subj", "/CN=localhost", "-keyout", &key, "-out", &request];
    run("openssl", &[&words[..], &new_key].concat());
    let words = [
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        &request,
        "-CA",
        &authority,
        "-CAkey",
        &authority_key,
        "-CAcreateserial",
    ];
    run("openssl", &[&words[..], &["-extfile", &extensions, "-out", &certificate]].concat());
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output
        .unwrap_or_else(|error| panic!("cannot run {program} ({error}): scripts/prepare test installs it"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn start(configuration: &Path, directory: &Path) -> Child {
    let log = fs::File::create(directory.join("log")).expect("a file can be made");
    // It ends with the thread that started it, however that ends.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
        .arg(configuration)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    // Not to be ended by a terminal's Ctrl-C before what uses it.
    command.process_group(0);
    command.spawn().unwrap_or_else(|error| {
        panic!("cannot run docker-registry ({error}): scripts/prepare test installs it")
    })
}

fn waits_for_answer(child: &mut Child, port: u16) -> bool {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if child.try_wait().expect("a child can be waited for").is_some() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

/// <https://datatracker.ietf.org/doc/html/rfc4648#section-4>
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
            << (8 * (3 - group.len()));
        for index in 0..4 {
            let digit = DIGITS[number >> (18 - 6 * index) & 63];
            text.push(if index <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn a_registry_answers() {
        let registry = Registry::plain();
        let said = run("curl", &["-sS", "-i", &format!("http://{}/v2/", registry.address())]);
        assert!(String::from_utf8_lossy(&said).starts_with("HTTP/1.1 200"), "{}", registry.log());
    }

    #[test]
    fn a_registry_with_tls_wants_a_password() {
        let registry = Registry::with(Options { tls: true, user: Some(("me", "secret")) });
        let authority = registry.authority().display().to_string();
        let url = format!("https://{}/v2/", registry.address());
        let ask = |more: &[&str]| {
            let said = run("curl", &[&["-sS", "-i", "--cacert", &authority, &url], more].concat());
            String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned()
        };
        assert!(ask(&[]).contains("401"));
        assert!(ask(&["-u", "me:secret"]).contains("200"));
    }
}
