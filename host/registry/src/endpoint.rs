//! Where a repository is asked for: at its registry, or at a mirror first.

use crate::settings::Settings;
use kiln_image::reference::RegistryReference;

/// docker's own registry, which answers under another name than its images have.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A repository at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// As credentials and certificates know it: `docker.io`, `localhost:5000`.
    pub host: String,
    /// The repository.
    pub path: String,
    /// Whether its certificate counts.
    pub verify: bool,
    /// Whether it is another host than the registry's: what is known of the registry's user is not for it.
    pub is_elsewhere: bool,
}

impl Endpoint {
    /// The registry itself.
    pub fn of(reference: &RegistryReference, settings: &Settings) -> Self {
        let (host, path) = (reference.domain().to_owned(), reference.path().to_owned());
        Self { host, path, verify: settings.tls_verify, is_elsewhere: false }
    }

    /// Mirrors in their order, then the registry.
    pub fn all(reference: &RegistryReference, settings: &Settings) -> Vec<Self> {
        let full = format!("{}/{}", reference.domain(), reference.path());
        let mirrors = settings.mirrors.iter().filter_map(|mirror| {
            let rest = full.strip_prefix(mirror.prefix.trim_end_matches('/'))?;
            // The prefix may be the whole, but no part of a word.
            let place = match rest.strip_prefix('/') {
                Some(rest) => format!("{}/{rest}", mirror.location.trim_end_matches('/')),
                None if rest.is_empty() => mirror.location.clone(),
                None => return None,
            };
            let (host, path) = place.split_once('/')?;
            let is_elsewhere = host != reference.domain();
            let (host, path) = (host.to_owned(), path.to_owned());
            Some(Self { host, path, verify: mirror.tls_verify, is_elsewhere })
        });
        mirrors.chain([Self::of(reference, settings)]).collect()
    }

    /// The host that is connected to.
    pub fn server(&self) -> &str {
        if self.host == DOCKER_HUB.0 { DOCKER_HUB.1 } else { &self.host }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Mirror;

    #[test]
    fn mirrors_take_the_place_of_a_prefix() {
        let mirror = |prefix: &str, location: &str| Mirror {
            prefix: prefix.to_owned(),
            location: location.to_owned(),
            tls_verify: false,
        };
        let mirrors = vec![
            mirror("docker.io", "m.example.org/hub"),
            mirror("docker.io/library", "localhost:5000"),
            mirror("docker.io/lib", "no.example.org"),
        ];
        let settings = Settings { mirrors, ..Settings::default() };
        let all = Endpoint::all(&"debian:12".parse().unwrap(), &settings);
        let shown: Vec<String> =
            all.iter().map(|it| format!("{} {} {}", it.server(), it.path, it.verify)).collect();
        assert_eq!(
            shown,
            [
                "m.example.org hub/library/debian false",
                "localhost:5000 debian false",
                "registry-1.docker.io library/debian true"
            ]
        );
    }
}
