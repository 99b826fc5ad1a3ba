//! Where names and passwords come from: files in the form of docker's `config.json`, and helper programs they name.
//!
//! Own code, since containers' keys with a part of the repository's path (`localhost:5000/team`) and several files, one after
//! the other, are what users have, and `docker_credential` knows neither.
//! <https://github.com/containers/image/blob/v5.30.0/docs/containers-auth.json.5.md>

use crate::endpoint::Endpoint;
use crate::error::{Error, Kind};
use crate::settings::{Credentials, Settings};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// How docker's own registry is called in these files.
const DOCKER_HUB_KEYS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// What helpers are asked for docker's own registry.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";
/// The user of helpers' identity tokens.
const TOKEN_USER: &str = "<token>";
/// Bytes of a file, or of a helper's answer.
const LIMIT: usize = 1 << 20;

/// How somebody shows who they are.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A name and a password.
    Password(Credentials),
    /// A refresh token, by which the token server gives others.
    Token(String),
}

#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

/// Never shown.
impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

/// Who to be at an endpoint; `None` for nobody. What was given for the registry is not for its mirrors.
pub(crate) fn of(settings: &Settings, endpoint: &Endpoint) -> Result<Option<Identity>, Error> {
    match &settings.credentials {
        Some(given) if !endpoint.is_elsewhere => Ok(Some(Identity::Password(given.clone()))),
        _ => find(settings, &endpoint.host, &endpoint.path),
    }
}

/// What the files say of a repository of a host.
fn find(settings: &Settings, host: &str, path: &str) -> Result<Option<Identity>, Error> {
    for file in &settings.auth_files {
        let Some(parsed) = read(file)? else { continue };
        if let Some(found) = parsed.find(host, path, file)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<File>, Error> {
    let refused = |why: String| Kind::Credentials { path: path.to_owned(), why };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(refused(error.to_string()).into()),
    };
    if bytes.len() > LIMIT {
        return Err(refused(format!("it has more than {LIMIT} bytes")).into());
    }
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    // Of a parser's message only the place: the rest may quote a password.
    let refused = |error: serde_json::Error| {
        refused(format!("it is no such JSON, line {}, column {}", error.line(), error.column()))
    };
    Ok(Some(serde_json::from_slice(&bytes).map_err(refused)?))
}

impl File {
    /// The more of the path a key names, the sooner it counts; a helper counts before what is written in the file.
    fn find(&self, host: &str, path: &str, file: &Path) -> Result<Option<Identity>, Error> {
        if let Some((_, helper)) = self.helpers.iter().find(|(key, _)| names_host(key, host)) {
            return ask(helper, host);
        }
        for prefix in prefixes(host, path) {
            let found = self.auths.iter().find(|(key, _)| {
                let key = normalized(key);
                key == prefix || (prefix == host && names_host(&key, host))
            });
            if let Some((key, auth)) = found
                && let Some(identity) = auth.identity(key, file)?
            {
                return Ok(Some(identity));
            }
        }
        self.store.as_ref().map_or(Ok(None), |helper| ask(helper, host))
    }
}

/// `host/a/b`, `host/a`, `host`.
fn prefixes(host: &str, path: &str) -> impl Iterator<Item = String> {
    let full = format!("{host}/{path}");
    let ends: Vec<usize> = full.match_indices('/').map(|(index, _)| index).chain([full.len()]).collect();
    ends.into_iter().rev().map(move |end| full[..end].to_owned())
}

/// Without what docker puts around a host: `https://index.docker.io/v1/`.
fn normalized(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    key.trim_end_matches("/v1").trim_end_matches("/v2").trim_end_matches('/').to_owned()
}

fn names_host(key: &str, host: &str) -> bool {
    let key = normalized(key);
    key == host || (DOCKER_HUB_KEYS.contains(&key.as_str()) && DOCKER_HUB_KEYS.contains(&host))
}

impl Auth {
    fn identity(&self, key: &str, file: &Path) -> Result<Option<Identity>, Error> {
        if !self.identity_token.is_empty() {
            return Ok(Some(Identity::Token(self.identity_token.clone())));
        }
        if !self.username.is_empty() {
            let (user, password) = (self.username.clone(), self.password.clone());
            return Ok(Some(Identity::Password(Credentials { user, password })));
        }
        if self.auth.is_empty() {
            // As docker leaves it where a helper knows.
            return Ok(None);
        }
        let refused = || {
            let why = format!("`auth` of {key:?} is not the Base64 of USER:PASSWORD");
            Kind::Credentials { path: file.to_owned(), why }
        };
        let decoded = BASE64_STANDARD.decode(self.auth.trim()).map_err(|_| refused())?;
        let text = String::from_utf8(decoded).map_err(|_| refused())?;
        let (user, password) = text.split_once(':').ok_or_else(refused)?;
        let password = password.trim_end_matches('\0').to_owned();
        Ok(Some(Identity::Password(Credentials { user: user.to_owned(), password })))
    }
}

/// Runs `docker-credential-HELPER get`.
/// <https://github.com/docker/docker-credential-helpers#development>
fn ask(helper: &str, host: &str) -> Result<Option<Identity>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| Kind::Helper { helper: program.clone(), why };
    if helper.contains('/') {
        return Err(failed("its name has a `/`".to_owned()).into());
    }
    let server = if DOCKER_HUB_KEYS.contains(&host) { DOCKER_HUB_SERVER } else { host };
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(format!("it cannot be run: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it has read says why by its exit code.
        let _ = stdin.write_all(server.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(crate::printable(&said)).into());
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed("its answer is not the JSON that such helpers give".to_owned()))?;
    Ok(Some(match answer {
        Answer { username, secret } if username == TOKEN_USER => Identity::Token(secret),
        Answer { username, secret } => Identity::Password(Credentials { user: username, password: secret }),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> (tempfile::TempDir, Settings) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        (directory, Settings { auth_files: vec!["/nowhere".into(), path], ..Settings::default() })
    }

    fn found(json: &str, host: &str, path: &str) -> String {
        let (_directory, settings) = settings(json);
        match find(&settings, host, path) {
            Ok(Some(Identity::Password(it))) => format!("{}:{}", it.user, it.password),
            Ok(Some(Identity::Token(token))) => format!("token {token}"),
            Ok(None) => "nobody".to_owned(),
            Err(error) => {
                error.to_string().split_once("used: ").map_or(error.to_string(), |(_, why)| why.to_owned())
            }
        }
    }

    #[test]
    fn the_longest_key_counts() {
        // user:pass, team:pass
        let json = r#"{"auths": {"localhost:5000": {"auth": "dXNlcjpwYXNz"}, "localhost:5000/a": {"auth": "dGVhbTpwYXNz"},
            "https://index.docker.io/v1/": {"username": "hub", "password": "p"}, "t": {"identitytoken": "xyz"}, "e": {}}}"#;
        for (host, path, expected) in [
            ("localhost:5000", "b", "user:pass"),
            ("localhost:5000", "a/b", "team:pass"),
            ("localhost:5000", "ab", "user:pass"),
            ("registry-1.docker.io", "library/debian", "hub:p"),
            ("t", "x", "token xyz"),
            ("e", "x", "nobody"),
            ("other", "x", "nobody"),
        ] {
            assert_eq!(found(json, host, path), expected, "{host}/{path}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_file_is_not_quoted() {
        for (json, expected) in [
            ("", "nobody"),
            (r#"{"auths": "secret"}"#, "it is no such JSON, line 1, column 18"),
            (
                r#"{"auths": {"h": {"auth": "secret"}}}"#,
                r#"`auth` of "h" is not the Base64 of USER:PASSWORD"#,
            ),
        ] {
            assert_eq!(found(json, "h", "x"), expected, "{json}");
        }
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let json = r#"{"credHelpers": {"h": "kiln-test-missing"}}"#;
        let said = found(json, "h", "x");
        assert!(
            said.starts_with("the credential helper docker-credential-kiln-test-missing failed:"),
            "{said}"
        );
        assert_eq!(found(json, "other", "x"), "nobody");
        assert!(found(r#"{"credsStore": "../x"}"#, "h", "x").contains("its name has a `/`"));
    }
}
