//! How registries are talked to.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How registries are talked to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--creds`: for every registry, instead of what the files say; mirrors on other hosts do not get them.
    pub credentials: Option<Credentials>,
    /// Files with credentials in the form of docker's `config.json`, the first that has an answer counts. The caller finds
    /// them by `REGISTRY_AUTH_FILE`, `DOCKER_CONFIG`, `XDG_RUNTIME_DIR` and home.
    pub auth_files: Vec<PathBuf>,
    /// `--tls-verify`: false takes any certificate, and plain HTTP where there is no TLS.
    pub tls_verify: bool,
    /// Directories with one directory for each `HOST[:PORT]`, in which `*.crt` are further authorities, as docker's and podman's
    /// `certs.d`.
    pub certificate_directories: Vec<PathBuf>,
    /// What is asked before a registry itself.
    pub mirrors: Vec<Mirror>,
    /// How often a request is tried again.
    pub retries: u32,
    /// The wait before the first retry; it doubles each time, and `Retry-After` counts more.
    pub backoff: Duration,
    /// A connection on which nothing comes for this long is broken.
    pub idle_timeout: Duration,
    /// Bytes of a blob in one request when pushing; all at once if `None`.
    pub chunk_size: Option<u64>,
    /// Who is told of retries and mirrors that fail.
    pub notify: Notify,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            credentials: None,
            auth_files: Vec::new(),
            tls_verify: true,
            certificate_directories: Vec::new(),
            mirrors: Vec::new(),
            retries: 3,
            backoff: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(60),
            chunk_size: None,
            notify: Notify::default(),
        }
    }
}

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Never shown.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Where images of a registry, or of a part of it, are asked for first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `docker.io`, or `docker.io/library`.
    pub prefix: String,
    /// `mirror.example.org`, or `mirror.example.org/docker`; takes the prefix's place.
    pub location: String,
    /// As [`Settings::tls_verify`].
    pub tls_verify: bool,
}

/// Takes messages for people. Called from several threads.
#[derive(Clone, Default)]
pub struct Notify(Option<Arc<Take>>);

type Take = dyn Fn(&str) + Send + Sync;

impl Notify {
    /// Calls this with each message.
    pub fn new(take: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(take)))
    }

    pub(crate) fn say(&self, message: &str) {
        if let Some(take) = &self.0 {
            take(message);
        }
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notify")
    }
}
