//! The build file as it is written: types only, nothing checked beyond them.
//!
//! Values keep their place in the file ([`Spanned`]), so that what is found wrong later can be
//! shown there.

use super::values::{Names, TextOr, Written};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use std::{collections::BTreeMap, ops::Range};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Where a value stands in the file: bytes from the start.
pub(super) type Span = Range<usize>;

/// Something that is not as it should be.
#[derive(Debug)]
pub(super) struct Mistake {
    pub span: Span,
    pub message: String,
}

impl From<toml::de::Error> for Mistake {
    fn from(error: toml::de::Error) -> Self {
        Self { span: error.span().unwrap_or_default(), message: error.message().to_owned() }
    }
}

/// A whole file.
#[derive(Debug)]
pub(super) struct Document {
    /// The file is itself the one image.
    pub is_short: bool,
    pub disk_size: Option<Spanned<String>>,
    pub images: Vec<Image>,
    pub outputs: Vec<Output>,
}

/// An image with its layers.
#[derive(Debug)]
pub(super) struct Image {
    pub span: Span,
    pub keys: ImageKeys,
    pub layers: Vec<Layer>,
}

/// What is said of an image besides its layers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ImageKeys {
    pub id: Option<Spanned<String>>,
    pub from: Option<Spanned<String>>,
    pub parent: Option<Spanned<Written<ParentTable>>>,
    pub platform: Option<Spanned<String>>,
    pub tools: Option<Spanned<String>>,
    pub name: Option<Spanned<String>>,
    pub tag: Option<Spanned<String>>,
    #[serde(default)]
    pub tags: Vec<Spanned<String>>,
    pub architecture: Option<Spanned<String>>,
    pub os: Option<Spanned<String>>,
    pub variant: Option<String>,
    pub os_version: Option<String>,
    #[serde(default)]
    pub os_features: Vec<String>,
    pub author: Option<String>,
    pub comment: Option<String>,
    pub created: Option<Spanned<String>>,
    pub layered: Option<Spanned<Written<LayeredTable>>>,
    #[serde(default)]
    pub shadow_setup: bool,
    pub root_password: Option<Spanned<RootPassword>>,
    #[serde(default)]
    pub uid_map: Vec<Spanned<String>>,
    #[serde(default)]
    pub gid_map: Vec<Spanned<String>>,
    pub squash: Option<Spanned<Written<NoTable>>>,
    pub format: Option<Spanned<String>>,
    #[serde(default)]
    pub config: Config,
    pub annotations: Option<Spanned<BTreeMap<String, Annotation>>>,
    pub disk: Option<Spanned<Disk>>,
}

/// What an image is to boot from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Disk {
    pub size: Option<Spanned<String>>,
    pub table: Option<Spanned<String>>,
    pub identifier: Option<Spanned<String>>,
    pub alignment: Option<Spanned<String>>,
    pub geometry: Option<Spanned<String>>,
    #[serde(default)]
    pub partition: Vec<Spanned<Partition>>,
    pub boot: Option<Vec<Spanned<String>>>,
    pub kernel_options: Option<String>,
    #[serde(default)]
    pub boot_timeout: u32,
    pub initrd: Option<Spanned<String>>,
    #[serde(default)]
    pub scripts: Vec<Script>,
    #[serde(default)]
    pub first_boot: Vec<Script>,
    pub hostname: Option<Spanned<String>>,
    pub machine_id: Option<Spanned<String>>,
    pub ssh_host_keys: Option<Spanned<String>>,
    #[serde(default)]
    pub grow: bool,
    #[serde(default)]
    pub group: Vec<DiskGroup>,
    #[serde(default)]
    pub user: Vec<Spanned<DiskUser>>,
    pub toolbox: Option<Spanned<String>>,
}

/// A group that is to be there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DiskGroup {
    pub name: String,
    pub gid: Option<u32>,
    #[serde(default)]
    pub system: bool,
}

/// A user that is to be there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DiskUser {
    pub name: String,
    pub uid: Option<u32>,
    pub group: Option<Spanned<Written<NoTable>>>,
    #[serde(default)]
    pub groups: Vec<String>,
    pub home: Option<String>,
    pub shell: Option<String>,
    pub comment: Option<String>,
    pub password: Option<Spanned<RootPassword>>,
    #[serde(default)]
    pub authorized_keys: Vec<String>,
    #[serde(default)]
    pub system: bool,
}

/// One partition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Partition {
    pub size: Option<Spanned<String>>,
    pub start: Option<Spanned<String>>,
    pub r#type: Option<Spanned<String>>,
    pub name: Option<Spanned<String>>,
    #[serde(default)]
    pub flags: Vec<Spanned<String>>,
    #[serde(default)]
    pub attributes: Vec<Spanned<String>>,
    pub partition_uuid: Option<Spanned<String>>,
    pub filesystem: Option<Spanned<String>>,
    pub label: Option<Spanned<String>>,
    pub uuid: Option<Spanned<String>>,
    pub mount: Option<Spanned<String>>,
    pub mount_options: Option<String>,
    #[serde(default)]
    pub mkfs_options: Vec<String>,
}

/// One, or those of one document.
pub(super) type Annotation = TextOr<BTreeMap<String, String>>;

/// `{ from = "oci:dir", index = 1 }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ParentTable {
    pub from: Spanned<String>,
    pub index: Option<Spanned<usize>>,
}

/// `{ max-layers = 20 }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LayeredTable {
    pub max_layers: i64,
}

/// Where no table is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoTable {}

/// `{ file = PATH }`, `{ env = NAME }` or `{ hash = "$6$..." }`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RootPassword {
    pub file: Option<Spanned<String>>,
    pub env: Option<Spanned<String>>,
    pub hash: Option<Spanned<String>>,
}

/// Shows nothing of it.
impl std::fmt::Debug for RootPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootPassword")
    }
}

/// What makes one layer.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Layer {
    #[serde(default)]
    pub contents: Vec<Content>,
    pub tar: Option<Spanned<String>>,
    pub difference: Option<Spanned<bool>>,
    #[serde(default)]
    pub delete: Vec<Spanned<String>>,
    pub pre_mount: Option<Script>,
    pub run_as_root: Option<Script>,
    pub post_mount: Option<Script>,
    pub post_umount: Option<Script>,
    pub extra_commands: Option<Script>,
    pub created_by: Option<String>,
    pub comment: Option<String>,
    pub author: Option<String>,
}

/// The keys of [`Layer`] that may stand in an image, which then has this one layer. The others are an image's own too.
const LAYER_KEYS: [&str; 10] = [
    "contents",
    "tar",
    "difference",
    "delete",
    "pre-mount",
    "run-as-root",
    "post-mount",
    "post-umount",
    "extra-commands",
    "created-by",
];

/// `"path"`, `{ src = "path", dest = "/", owner = "0:0" }` or `{ image = "id", src = "/path" }`.
#[derive(Debug)]
pub(super) struct Content {
    pub span: Span,
    pub src: Option<Spanned<String>>,
    pub image: Option<Spanned<String>>,
    pub dest: Option<Spanned<String>>,
    pub owner: Option<Spanned<String>>,
}

/// `"text"` or `{ file = "path" }`.
#[derive(Debug)]
pub(super) enum Script {
    Text(String),
    File(Spanned<String>),
}

/// Keys as the image specification and docker's API spell them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Config {
    pub user: Option<String>,
    #[serde(default)]
    pub exposed_ports: Names,
    #[serde(default)]
    pub env: Vec<Spanned<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    #[serde(default)]
    pub volumes: Names,
    pub working_dir: Option<Spanned<String>>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub stop_signal: Option<String>,
    pub healthcheck: Option<Spanned<Healthcheck>>,
    pub shell: Option<Spanned<Vec<String>>>,
    pub on_build: Option<Spanned<Vec<String>>>,
    pub stop_timeout: Option<Spanned<i64>>,
    pub memory: Option<Spanned<Written<NoTable>>>,
    pub memory_swap: Option<Spanned<Written<NoTable>>>,
    pub cpu_shares: Option<Spanned<i64>>,
}

/// How to see whether a container is well.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Healthcheck {
    pub test: Option<Spanned<Vec<String>>>,
    pub interval: Option<Spanned<Written<NoTable>>>,
    pub timeout: Option<Spanned<Written<NoTable>>>,
    pub start_period: Option<Spanned<Written<NoTable>>>,
    pub start_interval: Option<Spanned<Written<NoTable>>>,
    pub retries: Option<Spanned<i64>>,
}

/// Where images go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Output {
    pub r#type: Option<Spanned<String>>,
    pub dest: Option<Spanned<String>>,
    pub name: Option<Spanned<String>>,
    pub compression: Option<Spanned<String>>,
    #[serde(default)]
    pub force_compression: bool,
    pub dialect: Option<Spanned<String>>,
    pub subformat: Option<Spanned<Written<NoTable>>>,
    pub adapter: Option<Spanned<Written<NoTable>>>,
    pub hardware_version: Option<Spanned<Written<NoTable>>>,
    pub memory: Option<Spanned<Written<NoTable>>>,
    pub cpus: Option<Spanned<Written<NoTable>>>,
    pub firmware: Option<Spanned<Written<NoTable>>>,
    #[serde(default)]
    pub images: Vec<Spanned<String>>,
}

impl Output {
    /// The keys that only disks have, as given.
    pub fn of_disks(&self) -> impl Iterator<Item = (&'static str, &Spanned<Written<NoTable>>)> {
        let keys = [
            ("subformat", &self.subformat),
            ("adapter", &self.adapter),
            ("hardware-version", &self.hardware_version),
            ("memory", &self.memory),
            ("cpus", &self.cpus),
            ("firmware", &self.firmware),
        ];
        keys.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }
}

impl Document {
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let parsed = DeTable::parse(text)?;
        let span = parsed.span();
        let mut table = parsed.into_inner();
        let disk_size = take(&mut table, "disk-size")?;
        let outputs = take(&mut table, "output")?.unwrap_or_default();
        let (is_short, images) = match table.remove("image") {
            None => (true, vec![Image::parse(table, span)?]),
            Some(images) => {
                if let Some((key, _)) = table.iter().next() {
                    let message =
                        format!("`{}` belongs into an [[image]], where there are any", key.get_ref());
                    return Err(Mistake { span: key.span(), message });
                }
                (false, tables(images, "image")?.map(|(t, s)| Image::parse(t, s)).collect::<Result<_, _>>()?)
            }
        };
        Ok(Self { is_short, disk_size, images, outputs })
    }
}

impl Disk {
    /// A text that has its keys only.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let parsed = DeTable::parse(text)?;
        let span = parsed.span();
        deserialize(parsed.into_inner(), span)
    }
}

impl Image {
    /// An image without `[[image.layer]]` may have one layer's keys among its own.
    fn parse(mut table: DeTable<'_>, span: Span) -> Result<Self, Mistake> {
        let listed = table.remove("layer");
        let mut own = DeTable::new();
        for key in LAYER_KEYS {
            if let Some((key, value)) = table.remove_entry(key) {
                if listed.is_some() {
                    let message =
                        format!("`{}` belongs into a [[layer]], where there are any", key.get_ref());
                    return Err(Mistake { span: key.span(), message });
                }
                own.insert(key, value);
            }
        }
        let layers = match listed {
            Some(layers) => {
                tables(layers, "layer")?.map(|(t, s)| deserialize(t, s)).collect::<Result<_, _>>()?
            }
            None if own.is_empty() => Vec::new(),
            None => vec![deserialize(own, span.clone())?],
        };
        let keys = deserialize(table, span.clone()).map_err(with_layer_keys)?;
        Ok(Self { span, keys, layers })
    }
}

/// An unknown key may have been meant as one of a layer.
fn with_layer_keys(mut mistake: Mistake) -> Mistake {
    let keys = LAYER_KEYS.map(|key| format!("`{key}`")).join(", ");
    if mistake.message.starts_with("unknown field") {
        // The list of an image's keys, not of a table within it.
        mistake.message = mistake.message.replacen("one of `id`", &format!("one of {keys}, `id`"), 1);
    }
    mistake
}

/// A key's value, taken out of its table.
fn take<T: DeserializeOwned>(table: &mut DeTable<'_>, key: &str) -> Result<Option<T>, Mistake> {
    let Some(value) = table.remove(key) else { return Ok(None) };
    Ok(Some(T::deserialize(toml::de::ValueDeserializer::from(value))?))
}

fn deserialize<T: DeserializeOwned>(table: DeTable<'_>, span: Span) -> Result<T, Mistake> {
    let value = Spanned::new(span, DeValue::Table(table));
    Ok(T::deserialize(toml::de::ValueDeserializer::from(value))?)
}

/// The tables of a `[[KEY]]`.
fn tables<'i>(
    value: Spanned<DeValue<'i>>,
    key: &str,
) -> Result<impl Iterator<Item = (DeTable<'i>, Span)> + use<'i>, Mistake> {
    let wrong = |span| Mistake { span, message: format!("these are tables, each under [[{key}]]") };
    let span = value.span();
    let DeValue::Array(values) = value.into_inner() else { return Err(wrong(span)) };
    let mut found = Vec::new();
    for value in values {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else { return Err(wrong(span)) };
        found.push((table, span));
    }
    Ok(found.into_iter())
}

// Written by hand, because serde's untagged enums lose spans and answer every mistake with "data
// did not match any variant".

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            src: Option<Spanned<String>>,
            image: Option<Spanned<String>>,
            dest: Option<Spanned<String>>,
            owner: Option<Spanned<String>>,
        }
        let value = Spanned::<TextOr<Table>>::deserialize(deserializer)?;
        let span = value.span();
        Ok(match value.into_inner() {
            TextOr::Text(src) => {
                let src = Some(Spanned::new(span.clone(), src));
                Self { span, src, image: None, dest: None, owner: None }
            }
            TextOr::Table(Table { src, image, dest, owner }) => Self { span, src, image, dest, owner },
        })
    }
}

impl<'de> Deserialize<'de> for Script {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            file: Spanned<String>,
        }
        Ok(match TextOr::<Table>::deserialize(deserializer)? {
            TextOr::Text(text) => Self::Text(text),
            TextOr::Table(Table { file }) => Self::File(file),
        })
    }
}
