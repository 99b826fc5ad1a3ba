//! Arguments about registries, the same wherever an image may be in one.

use clap::{ArgAction, Args};
use kiln_registry::{Credentials, Mirror};
use std::path::PathBuf;

/// How registries are talked to.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Registries")]
pub struct RegistryArguments {
    /// User and password for registries, instead of those of the authentication files; of all users of this
    /// host who may see the command line, --authfile keeps them
    #[arg(long, value_name = "USER[:PASSWORD]", value_parser = parse_credentials)]
    pub creds: Option<Credentials>,
    /// Authentication file, as `docker login` and `podman login` write it [default: $REGISTRY_AUTH_FILE,
    /// $XDG_RUNTIME_DIR/containers/auth.json, then those in ~/.config/containers and $DOCKER_CONFIG or ~/.docker]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Ask registries for certificates that can be trusted; =false takes any, and plain HTTP too
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = ArgAction::Set
    )]
    pub tls_verify: bool,
    /// Directory with a directory for each HOST[:PORT], in which *.crt are trusted authorities; in addition to
    /// the usual certs.d
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// Ask LOCATION first for images that begin with PREFIX: docker.io=mirror.example.org
    #[arg(long, value_name = "PREFIX=LOCATION", value_parser = parse_mirror)]
    pub registry_mirror: Vec<Mirror>,
    /// How often a request that failed is tried again
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub retry_times: u32,
}

/// Without a password, it is empty, as some registries' tokens want it.
fn parse_credentials(text: &str) -> Result<Credentials, String> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    if user.is_empty() {
        return Err("it is written USER:PASSWORD".to_owned());
    }
    Ok(Credentials { user: user.to_owned(), password: password.to_owned() })
}

fn parse_mirror(text: &str) -> Result<Mirror, String> {
    match text.split_once('=') {
        Some((prefix, location)) if !prefix.is_empty() && !location.is_empty() => Ok(Mirror {
            prefix: prefix.trim_end_matches('/').to_owned(),
            location: location.trim_end_matches('/').to_owned(),
            tls_verify: true,
        }),
        _ => Err(format!("`{text}` is not PREFIX=LOCATION, such as docker.io=mirror.example.org")),
    }
}
