//! The documents against what their specifications demand of every field that is there, and against
//! themselves: references lead somewhere, and names are unique.

use super::*;
use crate::os_release::Distribution;
use crate::packages::{Manager, Source, Unread};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;

fn subject() -> Subject {
    Subject {
        name: "example.org/team/app:1.0".into(),
        image_id: Digest::of(b"configuration"),
        manifest: Some(Digest::of(b"manifest")),
        platform: Some(Platform::new("linux", "amd64")),
    }
}

fn creation() -> Creation {
    Creation { created: Timestamp::from_unix_seconds(1_700_000_000).unwrap(), tool_version: "1.0.0".into() }
}

fn inventory() -> Inventory {
    let bash = Package {
        architecture: Some("amd64".into()),
        source: Some(Source { name: "bash".into(), version: Some("5.2.15-2".into()) }),
        supplier: Some("Matthias Klose <doko@debian.org>".into()),
        license: Some("GPL-3.0-or-later AND MIT".into()),
        description: Some("GNU Bourne Again SHell".into()),
        homepage: Some("http://example.org/bash.html".into()),
        database: "var/lib/dpkg/status".into(),
        ..Package::new(Manager::Dpkg, "bash", "5.2.15-2+b7")
    };
    let custom = Package {
        license: Some("GPLv2+ and Public Domain".into()),
        homepage: Some("javascript:alert(1)".into()),
        ..Package::new(Manager::Npm, "@scope/ä b", "1")
    };
    let mit = Package { license: Some("MIT".into()), ..Package::new(Manager::Apk, "musl", "1.2") };
    Inventory {
        distribution: Some(Distribution {
            id: "debian".into(),
            version: Some("12".into()),
            pretty_name: Some("Debian GNU/Linux 12".into()),
        }),
        packages: vec![custom, mit, bash],
        unread: vec![],
    }
}

fn parse(json: Vec<u8>) -> Value {
    serde_json::from_slice(&json).unwrap()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} of {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Fails on a key that is not among those the specification has.
fn only_keys(value: &Value, keys: &str) {
    let known: BTreeSet<_> = keys.split(' ').collect();
    for key in value.as_object().unwrap().keys() {
        assert!(known.contains(key.as_str()), "{key}");
    }
}

fn check_spdx(document: &Value) {
    only_keys(
        document,
        "spdxVersion dataLicense SPDXID name documentNamespace creationInfo comment packages \
         hasExtractedLicensingInfos relationships",
    );
    assert_eq!(text(document, "/spdxVersion"), "SPDX-2.3");
    assert_eq!(text(document, "/dataLicense"), "CC0-1.0");
    assert_eq!(text(document, "/SPDXID"), "SPDXRef-DOCUMENT");
    assert!(text(document, "/creationInfo/creators/0").starts_with("Tool: kiln-"));
    let licenses: BTreeSet<_> =
        list(document, "hasExtractedLicensingInfos").iter().map(|info| text(info, "/licenseId")).collect();
    let mut ids = BTreeSet::from(["SPDXRef-DOCUMENT"]);
    for package in list(document, "packages") {
        only_keys(
            package,
            "name SPDXID versionInfo supplier downloadLocation filesAnalyzed checksums homepage sourceInfo \
             licenseConcluded licenseDeclared copyrightText summary externalRefs primaryPackagePurpose",
        );
        let id = text(package, "/SPDXID");
        let rest = id.strip_prefix("SPDXRef-").unwrap();
        assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)), "{id}");
        assert!(ids.insert(id), "{id} twice");
        assert_eq!(package["filesAnalyzed"], false);
        let license = text(package, "/licenseDeclared");
        assert!(
            license == "NOASSERTION" || licenses.contains(license) || crate::license::is_expression(license)
        );
    }
    for relationship in list(document, "relationships") {
        assert!(["DESCRIBES", "CONTAINS"].contains(&text(relationship, "/relationshipType")));
        assert!(ids.contains(text(relationship, "/spdxElementId")));
        assert!(ids.contains(text(relationship, "/relatedSpdxElement")));
    }
    assert_eq!(list(document, "relationships").len(), ids.len() - 1);
}

fn check_cyclonedx(bom: &Value) {
    only_keys(
        bom,
        "$schema bomFormat specVersion serialNumber version metadata components dependencies compositions",
    );
    assert_eq!((text(bom, "/bomFormat"), text(bom, "/specVersion")), ("CycloneDX", "1.6"));
    let mut references = BTreeSet::from([text(bom, "/metadata/component/bom-ref")]);
    for component in list(bom, "components") {
        only_keys(
            component,
            "type bom-ref supplier name version description hashes licenses purl externalReferences \
             properties",
        );
        assert!(["library", "operating-system"].contains(&text(component, "/type")));
        assert!(references.insert(text(component, "/bom-ref")));
        assert!(list(component, "licenses").len() <= 1);
    }
    let depends_on = list(&bom["dependencies"][0], "dependsOn");
    assert!(depends_on.iter().all(|reference| references.contains(reference.as_str().unwrap())));
    assert_eq!(depends_on.len(), references.len() - 1);
}

#[test]
fn spdx_says_what_is_known() {
    let document = parse(spdx(&subject(), &inventory(), &creation()));
    check_spdx(&document);
    assert_eq!(text(&document, "/creationInfo/created"), "2023-11-14T22:13:20Z");
    let image = &document["packages"][0];
    assert_eq!(text(image, "/checksums/0/checksumValue"), Digest::of(b"manifest").hex());
    assert_eq!(text(image, "/primaryPackagePurpose"), "CONTAINER");
    let purl = format!("pkg:oci/app@{}?arch=amd64", Digest::of(b"manifest"));
    assert_eq!(text(image, "/externalRefs/0/referenceLocator"), purl);
    let no_manifest = parse(spdx(&Subject { manifest: None, ..subject() }, &inventory(), &creation()));
    assert_eq!(text(&no_manifest, "/packages/0/versionInfo"), Digest::of(b"configuration").to_string());
    assert_eq!(no_manifest["packages"][0].get("externalRefs"), None);
    let bash = &document["packages"][2];
    let expected = [
        ("/name", "bash"),
        ("/versionInfo", "5.2.15-2+b7"),
        ("/supplier", "Person: Matthias Klose (doko@debian.org)"),
        ("/homepage", "http://example.org/bash.html"),
        ("/sourceInfo", "dpkg: /var/lib/dpkg/status; built from: bash 5.2.15-2"),
        ("/licenseDeclared", "GPL-3.0-or-later AND MIT"),
        ("/summary", "GNU Bourne Again SHell"),
        ("/externalRefs/0/referenceCategory", "PACKAGE-MANAGER"),
        (
            "/externalRefs/0/referenceLocator",
            "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12&upstream=bash%405.2.15-2",
        ),
    ];
    for (pointer, value) in expected {
        assert_eq!(text(bash, pointer), value);
    }
    let extracted = list(&document, "hasExtractedLicensingInfos");
    assert_eq!(extracted.len(), 1);
    assert_eq!(text(&extracted[0], "/name"), "GPLv2+ and Public Domain");
    assert_eq!(document["packages"][4].get("homepage"), None);
}

#[test]
fn cyclonedx_says_what_is_known() {
    let bom = parse(cyclonedx(&subject(), &inventory(), &creation()));
    check_cyclonedx(&bom);
    assert_eq!(text(&bom, "/metadata/component/type"), "container");
    assert_eq!(text(&bom, "/metadata/component/hashes/0/content"), Digest::of(b"manifest").hex());
    assert_eq!(text(&bom, "/components/0/type"), "operating-system");
    assert_eq!(text(&bom, "/components/1/licenses/0/expression"), "GPL-3.0-or-later AND MIT");
    assert_eq!(text(&bom, "/components/2/licenses/0/license/id"), "MIT");
    assert_eq!(text(&bom, "/components/3/licenses/0/license/name"), "GPLv2+ and Public Domain");
    assert_eq!(text(&bom, "/components/1/properties/2/value"), "5.2.15-2");
    assert_eq!(text(&bom, "/compositions/0/aggregate"), "unknown");
}

#[test]
fn what_was_not_read_is_told() {
    let why = "/var/lib/rpm/Packages is not read: it is a Berkeley DB";
    let unread = vec![Unread { path: "var/lib/rpm/Packages".into(), why: why.into() }];
    let inventory = Inventory { unread, ..inventory() };
    let document = parse(spdx(&subject(), &inventory, &creation()));
    assert_eq!(text(&document, "/comment"), format!("Not complete: {why}"));
    let bom = parse(cyclonedx(&subject(), &inventory, &creation()));
    assert_eq!(text(&bom, "/compositions/0/aggregate"), "incomplete");
    assert_eq!(text(&bom, "/metadata/properties/0/value"), format!("Not complete: {why}"));
}

#[test]
fn one_image_has_one_document() {
    let reversed = Inventory { packages: inventory().packages.into_iter().rev().collect(), ..inventory() };
    for format in [spdx, cyclonedx] {
        let document = format(&subject(), &inventory(), &creation());
        assert_eq!(document, format(&subject(), &reversed, &creation()));
        let other = Subject { manifest: None, ..subject() };
        let urn = |json: Vec<u8>| {
            let json = parse(json);
            [&json["documentNamespace"], &json["serialNumber"]].map(Clone::clone)
        };
        assert_ne!(urn(document), urn(format(&other, &inventory(), &creation())));
    }
    let empty = Inventory::default();
    check_spdx(&parse(spdx(&subject(), &empty, &creation())));
    check_cyclonedx(&parse(cyclonedx(&subject(), &empty, &creation())));
}

#[test]
fn web_addresses() {
    let good = ["https://example.org", "http://example.org/a?b=c#d"];
    let bad = [
        "",
        "ftp://example.org",
        "https://",
        "https://x y.org",
        "https://a.org/<b>",
        "https://a.org/%",
        "https://[::1]/",
    ];
    for address in good {
        assert_eq!(web_address(Some(&address.to_owned())), Some(address));
    }
    for address in bad {
        assert_eq!(web_address(Some(&address.to_owned())), None, "{address}");
    }
}

fn package() -> impl Strategy<Value = Package> {
    let word = || proptest::option::of(any::<String>());
    (any::<String>(), any::<String>(), word(), word(), word(), word(), 0..3).prop_map(
        |(name, version, architecture, supplier, license, homepage, manager)| Package {
            architecture,
            supplier,
            license,
            homepage,
            ..Package::new([Manager::Dpkg, Manager::Rpm, Manager::Npm][manager as usize], &name, &version)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn any_words_make_sound_documents(packages in proptest::collection::vec(package(), 0..6)) {
        let inventory = Inventory { packages, ..inventory() };
        check_spdx(&parse(spdx(&subject(), &inventory, &creation())));
        check_cyclonedx(&parse(cyclonedx(&subject(), &inventory, &creation())));
    }
}
