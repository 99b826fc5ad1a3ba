//! How registries are talked to: from arguments, environment and the files other tools keep, to a client.

use crate::{arguments::RegistryArguments, registries_conf};
use anyhow::Result;
use kiln_registry::{Client, Notify, Settings};
use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

/// The wait before the first retry.
const BACKOFF: Duration = Duration::from_secs(1);

/// A connection on which nothing comes for this long is broken.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Where docker and podman look for further authorities.
const SYSTEM_CERTIFICATES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// The client, which has not connected to anything yet.
pub fn client(arguments: &RegistryArguments) -> Result<Client> {
    let mut mirrors = arguments.registry_mirror.clone();
    for mirror in &mut mirrors {
        mirror.tls_verify = arguments.tls_verify;
    }
    mirrors.extend(registries_conf::mirrors(&configurations())?);
    Ok(Client::new(Settings {
        credentials: arguments.creds.clone(),
        auth_files: auth_files(arguments, &|name| env::var_os(name).map(PathBuf::from)),
        tls_verify: arguments.tls_verify,
        certificate_directories: certificate_directories(arguments),
        mirrors,
        retries: arguments.retry_times,
        backoff: BACKOFF,
        idle_timeout: IDLE_TIMEOUT,
        chunk_size: None,
        notify: Notify::new(note),
    })?)
}

/// A closed standard error must not end a transfer.
fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "kiln: note: {text}");
}

type Variable<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// A file that was named counts alone; else all usual ones, podman's before docker's.
/// <https://github.com/containers/image/blob/v5.30.0/docs/containers-auth.json.5.md>
fn auth_files(arguments: &RegistryArguments, variable: Variable<'_>) -> Vec<PathBuf> {
    let set = |name| variable(name).filter(|path| !path.as_os_str().is_empty());
    if let Some(file) = arguments.authfile.clone().or_else(|| set("REGISTRY_AUTH_FILE")) {
        return vec![file];
    }
    let home = set("HOME");
    let configuration = set("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let docker = set("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
    let of = |directory: Option<PathBuf>, file: &str| directory.map(|directory| directory.join(file));
    let docker = of(docker, "config.json");
    let mut files = vec![
        of(set("XDG_RUNTIME_DIR"), "containers/auth.json"),
        of(configuration, "containers/auth.json"),
        docker,
    ];
    // Who names a directory means it.
    if set("DOCKER_CONFIG").is_some() {
        files.rotate_right(1);
    }
    files.into_iter().flatten().collect()
}

fn certificate_directories(arguments: &RegistryArguments) -> Vec<PathBuf> {
    let own = configuration_home().map(|home| home.join("containers/certs.d"));
    let system = SYSTEM_CERTIFICATES.map(PathBuf::from);
    arguments.cert_dir.clone().into_iter().chain(own).chain(system).collect()
}

/// The first that is there counts.
/// <https://github.com/containers/image/blob/v5.30.0/docs/containers-registries.conf.5.md>
fn configurations() -> Vec<PathBuf> {
    let named = env::var_os("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from);
    let own = configuration_home().map(|home| home.join("containers/registries.conf"));
    named.into_iter().chain(own).chain([PathBuf::from("/etc/containers/registries.conf")]).collect()
}

fn configuration_home() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        registry: RegistryArguments,
    }

    fn found(words: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
        let words = ["x"].iter().chain(words);
        let arguments = Only::parse_from(words).registry;
        let variable =
            |name: &str| variables.iter().find(|variable| variable.0 == name).map(|found| found.1.into());
        auth_files(&arguments, &variable).iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn where_credentials_are() {
        let home = ("HOME", "/h");
        assert_eq!(found(&[], &[home]), ["/h/.config/containers/auth.json", "/h/.docker/config.json"]);
        assert_eq!(
            found(&[], &[home, ("XDG_RUNTIME_DIR", "/r"), ("XDG_CONFIG_HOME", "/c")]),
            ["/r/containers/auth.json", "/c/containers/auth.json", "/h/.docker/config.json"]
        );
        assert_eq!(
            found(&[], &[home, ("DOCKER_CONFIG", "/d")]),
            ["/d/config.json", "/h/.config/containers/auth.json"]
        );
        assert_eq!(found(&[], &[home, ("REGISTRY_AUTH_FILE", "/a")]), ["/a"]);
        assert_eq!(found(&["--authfile", "/b"], &[home, ("REGISTRY_AUTH_FILE", "/a")]), ["/b"]);
        assert_eq!(found(&[], &[]), [""; 0]);
    }
}
