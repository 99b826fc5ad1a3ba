//! SPDX 2.3. <https://spdx.github.io/spdx-spec/v2.3/>

use super::{
    Creation, Entry, Subject, TOOL, document_urn, entries, image_purl, incomplete, to_json, web_address,
};
use crate::license;
use crate::os_release::Distribution;
use crate::packages::{Inventory, Package as Installed};
use kiln_image::digest::Digest;
use serde::Serialize;
use std::collections::BTreeMap;

const SPDX_VERSION: &str = "SPDX-2.3";
/// The only licence a document may have.
const DATA_LICENSE: &str = "CC0-1.0";
const DOCUMENT_ID: &str = "SPDXRef-DOCUMENT";
const IMAGE_ID: &str = "SPDXRef-Image";
const SYSTEM_ID: &str = "SPDXRef-OperatingSystem";
/// Where nothing is known, as opposed to `NONE`.
const NOASSERTION: &str = "NOASSERTION";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    spdx_id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    packages: Vec<Package>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    has_extracted_licensing_infos: Vec<ExtractedLicensingInfo>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
    license_list_version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    name: String,
    #[serde(rename = "SPDXID")]
    spdx_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<String>,
    download_location: &'static str,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    license_concluded: &'static str,
    license_declared: String,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

/// A licence that is not in SPDX's list, in its package's own words.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExtractedLicensingInfo {
    license_id: String,
    extracted_text: String,
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: &'static str,
    relationship_type: &'static str,
    related_spdx_element: String,
}

/// The document of an image, in SPDX 2.3 JSON ([media type](crate::media_type::SPDX)).
pub fn spdx(subject: &Subject, inventory: &Inventory, creation: &Creation) -> Vec<u8> {
    let entries = entries(inventory);
    let mut packages = vec![image(subject)];
    packages.extend(inventory.distribution.as_ref().map(operating_system));
    packages.extend(entries.iter().map(package));
    to_json(&Document {
        spdx_version: SPDX_VERSION,
        data_license: DATA_LICENSE,
        spdx_id: DOCUMENT_ID,
        name: subject.name.clone(),
        document_namespace: document_urn("spdx", subject, creation),
        creation_info: CreationInfo {
            created: creation.created.to_string(),
            creators: vec![format!("Tool: {TOOL}-{}", creation.tool_version)],
            license_list_version: license::LIST_VERSION,
        },
        comment: incomplete(inventory),
        relationships: relationships(&packages),
        packages,
        has_extracted_licensing_infos: extracted(&entries),
    })
}

/// The document describes the image, which contains the others.
fn relationships(packages: &[Package]) -> Vec<Relationship> {
    let describes = Relationship {
        spdx_element_id: DOCUMENT_ID,
        relationship_type: "DESCRIBES",
        related_spdx_element: IMAGE_ID.to_owned(),
    };
    let contains = |package: &Package| Relationship {
        spdx_element_id: IMAGE_ID,
        relationship_type: "CONTAINS",
        related_spdx_element: package.spdx_id.clone(),
    };
    let others = packages.iter().filter(|package| package.spdx_id != IMAGE_ID);
    std::iter::once(describes).chain(others.map(contains)).collect()
}

/// A package of which nothing is known but its name.
fn unknown(id: String, name: &str) -> Package {
    Package {
        name: name.to_owned(),
        spdx_id: id,
        version_info: None,
        supplier: None,
        download_location: NOASSERTION,
        files_analyzed: false,
        checksums: Vec::new(),
        homepage: None,
        source_info: None,
        license_concluded: NOASSERTION,
        license_declared: NOASSERTION.to_owned(),
        copyright_text: NOASSERTION,
        summary: None,
        external_refs: Vec::new(),
        primary_package_purpose: None,
    }
}

fn image(subject: &Subject) -> Package {
    Package {
        version_info: Some(subject.digest().to_string()),
        checksums: vec![Checksum { algorithm: "SHA256", checksum_value: subject.digest().hex() }],
        external_refs: image_purl(subject).map(purl_reference).into_iter().collect(),
        primary_package_purpose: Some("CONTAINER"),
        ..unknown(IMAGE_ID.to_owned(), &subject.name)
    }
}

fn operating_system(distribution: &Distribution) -> Package {
    Package {
        version_info: distribution.version.clone(),
        summary: distribution.pretty_name.clone(),
        primary_package_purpose: Some("OPERATING-SYSTEM"),
        ..unknown(SYSTEM_ID.to_owned(), &distribution.id)
    }
}

fn package(entry: &Entry) -> Package {
    let installed = entry.package;
    Package {
        version_info: Some(installed.version.clone()),
        supplier: Some(installed.supplier.as_deref().map_or_else(|| NOASSERTION.to_owned(), actor)),
        homepage: web_address(installed.homepage.as_ref()).map(str::to_owned),
        source_info: Some(source_info(installed)),
        license_declared: installed.license.as_deref().map_or_else(|| NOASSERTION.to_owned(), declared),
        summary: installed.description.clone(),
        external_refs: vec![purl_reference(entry.purl.clone())],
        ..unknown(format!("SPDXRef-{}", entry.reference), &installed.name)
    }
}

fn purl_reference(purl: String) -> ExternalRef {
    ExternalRef { reference_category: "PACKAGE-MANAGER", reference_type: "purl", reference_locator: purl }
}

/// Where the package was found, and what it was built from.
fn source_info(package: &Installed) -> String {
    let mut text = format!("{}: /{}", package.manager, package.database);
    if let Some(source) = &package.source {
        text += &format!("; built from: {}", source.name);
        text.extend(source.version.iter().flat_map(|version| [" ", version]));
    }
    text
}

/// `Person: NAME (ADDRESS)` of `NAME <ADDRESS>`; without address it may as well be an organization.
fn actor(supplier: &str) -> String {
    let plain = |text: &str| text.replace(['(', ')', '<', '>'], " ").trim().to_owned();
    match supplier.split_once('<') {
        Some((name, address)) if !plain(name).is_empty() && address.contains('@') => {
            let address = address.split('>').next().unwrap_or(address);
            format!("Person: {} ({})", plain(name), plain(address))
        }
        _ if plain(supplier).is_empty() => NOASSERTION.to_owned(),
        _ => format!("Organization: {}", plain(supplier)),
    }
}

/// An expression as it is, anything else by a reference to what the package says.
fn declared(license: &str) -> String {
    if license::is_expression(license) { license.to_owned() } else { license_reference(license) }
}

fn license_reference(license: &str) -> String {
    format!("LicenseRef-{}", &Digest::of(license.as_bytes()).hex()[..16])
}

/// The licences that [`declared`] refers to.
fn extracted(entries: &[Entry]) -> Vec<ExtractedLicensingInfo> {
    let words = entries.iter().filter_map(|entry| entry.package.license.as_deref());
    let unlisted = words.filter(|license| !license::is_expression(license));
    let by_id: BTreeMap<_, _> = unlisted.map(|license| (license_reference(license), license)).collect();
    let info = |(license_id, text): (String, &str)| ExtractedLicensingInfo {
        license_id,
        extracted_text: format!("The package's own words for its licence: {text}"),
        name: text.to_owned(),
    };
    by_id.into_iter().map(info).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors() {
        let cases = [
            ("Jane Doe <jane@example.org>", "Person: Jane Doe (jane@example.org)"),
            ("Jane (QA) Doe <jane@example.org> x", "Person: Jane  QA  Doe (jane@example.org)"),
            ("Fedora Project", "Organization: Fedora Project"),
            ("<jane@example.org>", "Organization: jane@example.org"),
            ("Jane <", "Organization: Jane"),
            ("()", "NOASSERTION"),
        ];
        for (supplier, expected) in cases {
            assert_eq!(actor(supplier), expected);
        }
    }
}
