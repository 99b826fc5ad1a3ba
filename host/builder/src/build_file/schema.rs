//! The build file as it is written: types only, nothing checked beyond them.
//!
//! Values keep their place in the file ([`Spanned`]), so that what is found wrong later can be
//! shown there.

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use std::{collections::BTreeMap, fmt, ops::Range};
use toml::Spanned;

/// Where a value stands in the file: bytes from the start.
pub(super) type Span = Range<usize>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Document {
    pub from: Option<Spanned<String>>,
    pub tools: Option<Spanned<String>>,
    pub name: Option<Spanned<String>>,
    pub tag: Option<Spanned<String>>,
    #[serde(default)]
    pub contents: Vec<Content>,
    pub pre_mount: Option<Script>,
    pub run_as_root: Option<Script>,
    pub post_mount: Option<Script>,
    pub post_umount: Option<Script>,
    pub extra_commands: Option<Script>,
    pub disk_size: Option<Spanned<String>>,
    #[serde(default)]
    pub config: Config,
}

/// `"path"` or `{ src = "path", dest = "/", owner = "0:0" }`.
#[derive(Debug)]
pub(super) struct Content {
    pub src: Spanned<String>,
    pub dest: Option<Spanned<String>>,
    pub owner: Option<Spanned<String>>,
}

/// `"text"` or `{ file = "path" }`.
#[derive(Debug)]
pub(super) enum Script {
    Text(String),
    File(Spanned<String>),
}

/// Keys as the image specification spells them.
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
}

/// A set of names: a list, or a table of empty tables as the specification's JSON has it.
#[derive(Debug, Default)]
pub(super) struct Names(pub Vec<Spanned<String>>);

// Written by hand, because serde's untagged enums lose spans and answer every mistake with "data
// did not match any variant".

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            src: Spanned<String>,
            dest: Option<Spanned<String>>,
            owner: Option<Spanned<String>>,
        }
        let value = Spanned::<TextOr<Table>>::deserialize(deserializer)?;
        let span = value.span();
        Ok(match value.into_inner() {
            TextOr::Text(src) => Self { src: Spanned::new(span, src), dest: None, owner: None },
            TextOr::Table(Table { src, dest, owner }) => Self { src, dest, owner },
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

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamesVisitor;

        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = Names;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a list of names, or a table with an empty table for each")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Names, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Empty {}

                let mut names = Vec::new();
                while let Some((name, Empty {})) = table.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }

        deserializer.deserialize_any(NamesVisitor)
    }
}

/// A plain text, or a table that says more.
enum TextOr<T> {
    Text(String),
    Table(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrVisitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for TextOrVisitor<T> {
            type Value = TextOr<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a string or a table")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(TextOr::Table)
            }
        }

        deserializer.deserialize_any(TextOrVisitor(std::marker::PhantomData))
    }
}
