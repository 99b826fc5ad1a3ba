//! Whom to believe: the system's authorities, else those compiled in, and a host's own.

use crate::error::{Error, Kind};
use crate::settings::Settings;
use std::fs;
use std::path::{Path, PathBuf};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Bytes of a file with certificates.
const LIMIT: u64 = 4 << 20;

/// TLS for a host (with its port as in references). `verify` false takes any certificate.
pub(crate) fn tls_config(settings: &Settings, host: &str, verify: bool) -> Result<TlsConfig, Error> {
    let builder = TlsConfig::builder();
    if !verify {
        return Ok(builder.disable_verification(true).build());
    }
    let mut authorities = Vec::new();
    for directory in &settings.certificate_directories {
        authorities.extend(of_directory(&directory.join(host))?);
    }
    let system = rustls_native_certs::load_native_certs();
    let certificates = system.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
    authorities.extend(certificates);
    let roots = if system.certs.is_empty() && authorities.is_empty() {
        RootCerts::WebPki
    } else {
        RootCerts::new_with_certs(&authorities)
    };
    Ok(builder.root_certs(roots).build())
}

fn of_directory(directory: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "crt")) {
        found.extend(of_file(&path)?);
    }
    Ok(found)
}

fn of_file(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let refused = |why: String| Kind::Certificate { path: path.to_owned(), why };
    let size = fs::metadata(path).map_err(|error| refused(error.to_string()))?.len();
    if size > LIMIT {
        return Err(refused(format!("it has more than {LIMIT} bytes")).into());
    }
    let pem = fs::read(path).map_err(|error| refused(error.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| refused(error.to_string()))? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(refused("there is no certificate in it".to_owned()).into());
    }
    Ok(found)
}
