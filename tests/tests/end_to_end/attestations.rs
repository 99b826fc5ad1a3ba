//! SBOM and provenance: what is in an image, and what it was made of.

use kiln_tests::{Debian, Image, Room};
use serde_json::Value;
use std::{fs, path::Path};

fn json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Packages that dpkg knows, `name` and `version`.
fn packages_of(debian: &Debian) -> Vec<(String, String)> {
    let rootfs = debian.rootfs().to_str().expect("plain");
    let status = kiln_tests::tool_output("tar", &["-xOf", rootfs, "./var/lib/dpkg/status"]);
    let status = String::from_utf8(status).expect("text");
    let of = |paragraph: &str, key: &str| {
        let line = paragraph.lines().find_map(|line| line.strip_prefix(key));
        line.map(str::to_owned).unwrap_or_default()
    };
    status
        .split("\n\n")
        .map(|text| (of(text, "Package: "), of(text, "Version: ")))
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

#[test]
fn an_sbom_names_every_package() {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let context = room.context("context", Some(&debian), "from = 'base.tar'\nname = 'app'\n");
    let (spdx, cyclonedx) = (room.path("spdx.json"), room.path("cyclonedx.json"));
    let output = format!("oci:{}:app", room.path("layout").display());
    for (kind, file) in [("spdx", &spdx), ("cyclonedx", &cyclonedx)] {
        room.kiln()
            .args(["build", "-o", &output, &format!("--sbom={kind}"), "--sbom-file"])
            .arg(file)
            .arg(&context)
            .run()
            .succeeds();
    }
    let packages = packages_of(&debian);
    assert!(packages.len() > 50);
    let spdx = json(&spdx);
    assert_eq!(spdx["spdxVersion"], "SPDX-2.3");
    let listed = |list: &Value, version: &str| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        list.as_array()
            .expect("a list")
            .iter()
            .map(|item| (text(&item["name"]), text(&item[version])))
            .collect()
    };
    let (in_spdx, in_cyclonedx) =
        (listed(&spdx["packages"], "versionInfo"), listed(&json(&cyclonedx)["components"], "version"));
    for package in &packages {
        assert!(in_spdx.contains(package), "{package:?} is not in the SPDX document");
        assert!(in_cyclonedx.contains(package), "{package:?} is not in the CycloneDX document");
    }
}

#[test]
fn provenance_names_every_input_by_digest() {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    room.write("context/tree/file", "file");
    let build_file = "from = 'base.tar'\nname = 'app'\ncontents = ['tree']\n";
    let context = room.context("context", Some(&debian), build_file);
    let provenance = room.path("provenance.json");
    let output = format!("oci:{}:app", room.path("layout").display());
    let build = || {
        room.kiln()
            .args(["build", "-o", &output, "--provenance", "--provenance-file"])
            .arg(&provenance)
            .arg(&context)
            .run()
            .succeeds();
        fs::read(&provenance).expect("it is there")
    };
    let (first, second) = (build(), build());
    assert_eq!(first, second);
    let statement = json(&provenance);
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let digest = Image::at(&output).inspect()["Digest"].clone();
    let subject = &statement["subject"][0]["digest"]["sha256"];
    assert_eq!(format!("sha256:{}", subject.as_str().expect("text")), digest.as_str().expect("text"));
    let inputs =
        statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().expect("a list").clone();
    for input in &inputs {
        assert_eq!(input["digest"]["sha256"].as_str().map(str::len), Some(64), "{input}");
    }
    for name in ["base.tar", "tree", "kiln.toml"] {
        assert!(inputs.iter().any(|input| input.to_string().contains(name)), "{name}: {inputs:#?}");
    }
}

/// As an OCI referrer: a manifest in the layout whose subject is the image.
#[test]
fn attestations_refer_to_their_image() {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let context = room.context("context", Some(&debian), "from = 'base.tar'\nname = 'app'\n");
    let layout = room.path("layout");
    let output = format!("oci:{}:app", layout.display());
    room.kiln().args(["build", "-o", &output, "--sbom", "--provenance"]).arg(&context).run().succeeds();
    let digest = Image::at(&output).inspect()["Digest"].clone();
    let index = json(&layout.join("index.json"));
    let blobs = layout.join("blobs/sha256");
    let manifests = index["manifests"].as_array().expect("a list").iter();
    let referrers: Vec<Value> = manifests
        .map(|entry| json(&blobs.join(&entry["digest"].as_str().expect("text")[7..])))
        .filter(|manifest| manifest["subject"]["digest"] == digest)
        .collect();
    let mut types: Vec<_> =
        referrers.iter().map(|manifest| manifest["artifactType"].as_str().expect("text")).collect();
    types.sort_unstable();
    assert_eq!(types, ["application/spdx+json", "application/vnd.in-toto+json"]);
    // The provenance is about the manifest it refers to.
    let provenance =
        referrers.iter().find(|manifest| manifest["artifactType"] == "application/vnd.in-toto+json");
    let layer = &provenance.expect("it is there")["layers"][0]["digest"];
    let statement = json(&blobs.join(&layer.as_str().expect("text")[7..]));
    let subject = statement["subject"][0]["digest"]["sha256"].as_str().expect("text").to_owned();
    assert_eq!(format!("sha256:{subject}"), digest.as_str().expect("text"));
}
