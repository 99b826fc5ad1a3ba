//! Provenance: what an image was made of, and by what.
//!
//! An [in-toto statement](https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md) with the
//! predicate [SLSA provenance v1](https://slsa.dev/spec/v1.0/provenance). It is not signed: sign it as
//! it is, or in a DSSE envelope.
//!
//! # Build type `urn:kiln:build:v1`
//! - `externalParameters`: what the user asked for: `buildFile` (a resource descriptor), `target` and
//!   `options`. With `resolvedDependencies` at hand, kiln builds the same bytes from these again.
//! - `internalParameters`: what kiln chose itself, as the engine. Changes nothing of the output.
//! - `resolvedDependencies`: every input that was used, by digest: base images, contexts, files fetched.
//! - `runDetails.builder.builderDependencies`: guest kernel and agent.
//! - No `invocationId`, and times only when the caller gives some: one build has one statement.

use kiln_image::config::Timestamp;
use kiln_image::digest::Digest;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The statement's `_type`.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The statement's `predicateType`: also what an image's referrer is found by.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// The predicate's `buildType`.
pub const BUILD_TYPE: &str = "urn:kiln:build:v1";

/// Something by its digest: an output, an input, a part of kiln.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Artifact {
    /// What it is called: an image's reference, a file's name, `kernel`.
    pub name: String,
    /// Where it came from, if it has a URI: `pkg:oci/...`, `https://...`.
    pub uri: Option<String>,
    /// Of an image the digest of its manifest.
    pub digest: Digest,
    /// Media type, if known.
    pub media_type: Option<String>,
}

impl Artifact {
    /// An artifact of which no more is known.
    pub fn new(name: &str, digest: Digest) -> Self {
        Self { name: name.to_owned(), uri: None, digest, media_type: None }
    }
}

/// A finished build.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    /// What came out; one at least.
    pub outputs: Vec<Artifact>,
    /// The build file, if there is one.
    pub build_file: Option<Artifact>,
    /// Which image of the build file.
    pub target: Option<String>,
    /// What else the user asked for, by option. No secrets.
    pub options: BTreeMap<String, Value>,
    /// What kiln chose itself.
    pub internal: BTreeMap<String, Value>,
    /// Every input.
    pub inputs: Vec<Artifact>,
    /// By what it was built.
    pub builder: Builder,
    /// When it was started, if that is to be told.
    pub started: Option<Timestamp>,
    /// When it was finished, if that is to be told.
    pub finished: Option<Timestamp>,
}

/// What built: a program, or a service that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    /// A URI that those who trust it know: `urn:kiln:builder:local`.
    pub id: String,
    /// Versions of its parts: `kiln` to `1.0.0`.
    pub version: BTreeMap<String, String>,
    /// Guest kernel, agent, toolbox.
    pub dependencies: Vec<Artifact>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: Vec<Subject<'a>>,
    predicate_type: &'static str,
    predicate: Provenance<'a>,
}

#[derive(Serialize)]
struct Subject<'a> {
    name: &'a str,
    digest: DigestSet,
}

/// <https://github.com/in-toto/attestation/blob/main/spec/v1/digest_set.md>
#[derive(Serialize)]
struct DigestSet {
    sha256: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Provenance<'a> {
    build_definition: BuildDefinition<'a>,
    run_details: RunDetails<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition<'a> {
    build_type: &'static str,
    external_parameters: ExternalParameters<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    internal_parameters: &'a BTreeMap<String, Value>,
    resolved_dependencies: Vec<ResourceDescriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalParameters<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    build_file: Option<ResourceDescriptor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    options: &'a BTreeMap<String, Value>,
}

/// <https://github.com/in-toto/attestation/blob/main/spec/v1/resource_descriptor.md>
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceDescriptor<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a str>,
    digest: DigestSet,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
}

#[derive(Serialize)]
struct RunDetails<'a> {
    builder: BuilderDetails<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<BuildMetadata>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuilderDetails<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    version: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    builder_dependencies: Vec<ResourceDescriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildMetadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    started_on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_on: Option<String>,
}

/// The statement about a build, in one line of JSON ([media type](crate::media_type::IN_TOTO)). Outputs,
/// inputs and the builder's parts are sorted, and each told once.
pub fn statement(build: &Build) -> Vec<u8> {
    let statement = Statement {
        kind: STATEMENT_TYPE,
        subject: sorted(&build.outputs).into_iter().map(subject).collect(),
        predicate_type: PREDICATE_TYPE,
        predicate: Provenance { build_definition: definition(build), run_details: run_details(build) },
    };
    serde_json::to_vec(&statement).expect("strings, lists and numbers are JSON")
}

fn definition(build: &Build) -> BuildDefinition<'_> {
    BuildDefinition {
        build_type: BUILD_TYPE,
        external_parameters: ExternalParameters {
            build_file: build.build_file.as_ref().map(resource),
            target: build.target.as_deref(),
            options: &build.options,
        },
        internal_parameters: &build.internal,
        resolved_dependencies: sorted(&build.inputs).into_iter().map(resource).collect(),
    }
}

fn run_details(build: &Build) -> RunDetails<'_> {
    let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let has_times = build.started.is_some() || build.finished.is_some();
    RunDetails {
        builder: BuilderDetails {
            id: &build.builder.id,
            version: &build.builder.version,
            builder_dependencies: sorted(&build.builder.dependencies).into_iter().map(resource).collect(),
        },
        metadata: has_times
            .then(|| BuildMetadata { started_on: text(build.started), finished_on: text(build.finished) }),
    }
}

fn sorted(artifacts: &[Artifact]) -> Vec<&Artifact> {
    let mut sorted: Vec<_> = artifacts.iter().collect();
    sorted.sort();
    sorted.dedup();
    sorted
}

fn subject(artifact: &Artifact) -> Subject<'_> {
    Subject { name: &artifact.name, digest: digest_set(artifact) }
}

fn resource(artifact: &Artifact) -> ResourceDescriptor<'_> {
    ResourceDescriptor {
        name: &artifact.name,
        uri: artifact.uri.as_deref(),
        digest: digest_set(artifact),
        media_type: artifact.media_type.as_deref(),
    }
}

fn digest_set(artifact: &Artifact) -> DigestSet {
    DigestSet { sha256: artifact.digest.hex() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn build() -> Build {
        let base = Artifact {
            uri: Some("docker://example.org/debian:12".into()),
            media_type: Some("application/vnd.oci.image.manifest.v1+json".into()),
            ..Artifact::new("debian", Digest::of(b"base"))
        };
        Build {
            outputs: vec![Artifact::new("b.tar", Digest::of(b"2")), Artifact::new("a.tar", Digest::of(b"1"))],
            build_file: Some(Artifact::new("kiln.toml", Digest::of(b"file"))),
            target: Some("app".into()),
            options: [("epoch".to_owned(), json!(0))].into(),
            internal: [("engine".to_owned(), json!("kvm"))].into(),
            inputs: vec![base.clone(), Artifact::new("context", Digest::of(b"context")), base],
            builder: Builder {
                id: "urn:kiln:builder:local".into(),
                version: [("kiln".to_owned(), "1.0.0".to_owned())].into(),
                dependencies: vec![
                    Artifact::new("kernel", Digest::of(b"kernel")),
                    Artifact::new("agent", Digest::of(b"agent")),
                ],
            },
            started: None,
            finished: None,
        }
    }

    fn sha256(bytes: &[u8]) -> Value {
        json!({ "sha256": Digest::of(bytes).hex() })
    }

    #[test]
    fn every_part() {
        let expected = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [
                { "name": "a.tar", "digest": sha256(b"1") },
                { "name": "b.tar", "digest": sha256(b"2") },
            ],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": "urn:kiln:build:v1",
                    "externalParameters": {
                        "buildFile": { "name": "kiln.toml", "digest": sha256(b"file") },
                        "target": "app",
                        "options": { "epoch": 0 },
                    },
                    "internalParameters": { "engine": "kvm" },
                    "resolvedDependencies": [
                        { "name": "context", "digest": sha256(b"context") },
                        {
                            "name": "debian",
                            "uri": "docker://example.org/debian:12",
                            "digest": sha256(b"base"),
                            "mediaType": "application/vnd.oci.image.manifest.v1+json",
                        },
                    ],
                },
                "runDetails": {
                    "builder": {
                        "id": "urn:kiln:builder:local",
                        "version": { "kiln": "1.0.0" },
                        "builderDependencies": [
                            { "name": "agent", "digest": sha256(b"agent") },
                            { "name": "kernel", "digest": sha256(b"kernel") },
                        ],
                    },
                },
            },
        });
        assert_eq!(serde_json::from_slice::<Value>(&statement(&build())).unwrap(), expected);
    }

    #[test]
    fn the_order_of_lists_changes_nothing_and_times_are_told() {
        let mut other = build();
        other.inputs.reverse();
        other.outputs.reverse();
        other.builder.dependencies.reverse();
        assert_eq!(statement(&build()), statement(&other));
        other.started = Some(Timestamp::from_unix_seconds(0).unwrap());
        let json: Value = serde_json::from_slice(&statement(&other)).unwrap();
        let metadata = &json["predicate"]["runDetails"]["metadata"];
        assert_eq!(*metadata, json!({ "startedOn": "1970-01-01T00:00:00Z" }));
    }
}
