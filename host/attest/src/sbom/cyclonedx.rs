//! CycloneDX 1.6. <https://cyclonedx.org/docs/1.6/json/>

use super::{
    Creation, Entry, Subject, TOOL, document_urn, entries, image_purl, incomplete, to_json, web_address,
};
use crate::license;
use crate::os_release::Distribution;
use crate::packages::Inventory;
use serde::Serialize;

const SCHEMA: &str = "http://cyclonedx.org/schema/bom-1.6.schema.json";
const SPEC_VERSION: &str = "1.6";
const IMAGE_REFERENCE: &str = "Image";
const SYSTEM_REFERENCE: &str = "OperatingSystem";
/// Names of our properties.
const DATABASE_PROPERTY: &str = "kiln:package:database";
const SOURCE_NAME_PROPERTY: &str = "kiln:package:source";
const SOURCE_VERSION_PROPERTY: &str = "kiln:package:sourceVersion";
const INCOMPLETE_PROPERTY: &str = "kiln:inventory:incomplete";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
    compositions: Vec<Composition>,
}

#[derive(Serialize)]
struct Metadata {
    timestamp: String,
    tools: Tools,
    component: Component,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Serialize)]
struct Tools {
    components: Vec<Component>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    bom_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<Supplier>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<LicenseChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<ExternalReference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Serialize)]
struct Supplier {
    name: String,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum LicenseChoice {
    License(License),
    Expression(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum License {
    Id(String),
    Name(String),
}

#[derive(Serialize)]
struct ExternalReference {
    url: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Property {
    name: &'static str,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    reference: String,
    depends_on: Vec<String>,
}

/// Whether what is listed is all.
#[derive(Serialize)]
struct Composition {
    aggregate: &'static str,
    assemblies: Vec<&'static str>,
}

/// The document of an image, in CycloneDX 1.6 JSON ([media type](crate::media_type::CYCLONEDX)).
pub fn cyclonedx(subject: &Subject, inventory: &Inventory, creation: &Creation) -> Vec<u8> {
    let mut components: Vec<_> = inventory.distribution.iter().map(operating_system).collect();
    components.extend(entries(inventory).into_iter().map(component));
    let incomplete = incomplete(inventory);
    to_json(&Bom {
        schema: SCHEMA,
        bom_format: "CycloneDX",
        spec_version: SPEC_VERSION,
        serial_number: document_urn("cyclonedx", subject, creation),
        version: 1,
        compositions: vec![Composition {
            // What no package manager has written down is not known.
            aggregate: if incomplete.is_some() { "incomplete" } else { "unknown" },
            assemblies: vec![IMAGE_REFERENCE],
        }],
        metadata: Metadata {
            timestamp: creation.created.to_string(),
            tools: Tools { components: vec![tool(creation)] },
            component: image(subject),
            properties: incomplete.into_iter().map(|why| property(INCOMPLETE_PROPERTY, why)).collect(),
        },
        dependencies: vec![Dependency {
            reference: IMAGE_REFERENCE.to_owned(),
            depends_on: components.iter().filter_map(|component| component.bom_ref.clone()).collect(),
        }],
        components,
    })
}

fn tool(creation: &Creation) -> Component {
    Component {
        kind: "application",
        name: TOOL.to_owned(),
        version: Some(creation.tool_version.clone()),
        ..Component::default()
    }
}

fn image(subject: &Subject) -> Component {
    Component {
        kind: "container",
        bom_ref: Some(IMAGE_REFERENCE.to_owned()),
        name: subject.name.clone(),
        version: Some(subject.digest().to_string()),
        hashes: vec![Hash { alg: "SHA-256", content: subject.digest().hex() }],
        purl: image_purl(subject),
        ..Component::default()
    }
}

fn operating_system(distribution: &Distribution) -> Component {
    Component {
        kind: "operating-system",
        bom_ref: Some(SYSTEM_REFERENCE.to_owned()),
        name: distribution.id.clone(),
        version: distribution.version.clone(),
        description: distribution.pretty_name.clone(),
        ..Component::default()
    }
}

fn component(entry: Entry) -> Component {
    let package = entry.package;
    let website = |url: &str| ExternalReference { url: url.to_owned(), kind: "website" };
    let source = package.source.as_ref();
    let source_version = source.and_then(|source| source.version.clone());
    let properties = [
        Some(property(DATABASE_PROPERTY, format!("/{}", package.database))),
        source.map(|source| property(SOURCE_NAME_PROPERTY, source.name.clone())),
        source_version.map(|version| property(SOURCE_VERSION_PROPERTY, version)),
    ];
    Component {
        kind: "library",
        bom_ref: Some(entry.reference),
        supplier: package.supplier.clone().map(|name| Supplier { name }),
        name: package.name.clone(),
        version: Some(package.version.clone()),
        description: package.description.clone(),
        licenses: package.license.as_deref().into_iter().map(license_choice).collect(),
        purl: Some(entry.purl),
        external_references: web_address(package.homepage.as_ref()).into_iter().map(website).collect(),
        properties: properties.into_iter().flatten().collect(),
        ..Component::default()
    }
}

fn license_choice(license: &str) -> LicenseChoice {
    let license = license.to_owned();
    if license::is_id(&license) {
        LicenseChoice::License(License::Id(license))
    } else if license::is_expression(&license) {
        LicenseChoice::Expression(license)
    } else {
        LicenseChoice::License(License::Name(license))
    }
}

fn property(name: &'static str, value: String) -> Property {
    Property { name, value }
}
