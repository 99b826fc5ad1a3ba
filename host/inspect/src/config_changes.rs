//! How two configurations differ, key by key.

use kiln_image::config::ImageConfig;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A key that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigChange {
    /// `Env.PATH`, `Labels.version`, `Cmd`, `architecture`, `history[2]`.
    pub key: String,
    /// On the left, if it is there.
    pub left: Option<Value>,
    /// On the right, if it is there.
    pub right: Option<Value>,
}

/// All that differs but the layers, sorted by key.
pub fn config_changes(left: &ImageConfig, right: &ImageConfig) -> Vec<ConfigChange> {
    let (left, mut right) = (flat(left), flat(right));
    let mut changes = BTreeMap::new();
    for (key, value) in left {
        let other = right.remove(&key);
        if other.as_ref() != Some(&value) {
            changes.insert(key, (Some(value), other));
        }
    }
    changes.extend(right.into_iter().map(|(key, value)| (key, (None, Some(value)))));
    let change = |(key, (left, right))| ConfigChange { key, left, right };
    changes.into_iter().map(change).collect()
}

type Flat = BTreeMap<String, Value>;

fn flat(config: &ImageConfig) -> Flat {
    let mut flat = Flat::new();
    for (key, value) in object(serde_json::to_value(config).ok()) {
        match (key.as_str(), value) {
            ("rootfs", _) => {}
            ("config", value) => flatten_container(&mut flat, object(Some(value))),
            ("history", Value::Array(entries)) => {
                let entries = entries.into_iter().enumerate();
                // With leading zeros, as keys are sorted as text.
                flat.extend(entries.map(|(number, entry)| (format!("history[{number:03}]"), entry)));
            }
            (_, value) => drop(flat.insert(key, value)),
        }
    }
    flat
}

fn flatten_container(flat: &mut Flat, config: Map<String, Value>) {
    for (key, value) in config {
        match (key.as_str(), value) {
            ("Env", Value::Array(variables)) => {
                for variable in variables.iter().filter_map(Value::as_str) {
                    let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
                    flat.insert(format!("Env.{name}"), value.into());
                }
            }
            ("Labels" | "ExposedPorts" | "Volumes", Value::Object(members)) => {
                flat.extend(members.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)));
            }
            (_, value) => drop(flat.insert(key, value)),
        }
    }
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(container: &Value) -> ImageConfig {
        let json = json!({"architecture": "amd64", "os": "linux", "config": container, "rootfs": {"type": "layers"}});
        ImageConfig::parse(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn key_by_key() {
        let left = config(&json!({"Env": ["A=1", "B=2"], "Labels": {"v": "1"}, "Cmd": ["sh"]}));
        let mut right = config(&json!({"Env": ["B=3", "C=4", "A=1"], "Labels": {"v": "1"}, "User": "web"}));
        right.architecture = "arm64".to_owned();
        let changes = config_changes(&left, &right);
        let line = |change: &ConfigChange| {
            let text = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
            format!("{} {} {}", change.key, text(&change.left), text(&change.right))
        };
        let lines: Vec<String> = changes.iter().map(line).collect();
        let expected = [
            "Cmd [\"sh\"] -",
            "Env.B \"2\" \"3\"",
            "Env.C - \"4\"",
            "User - \"web\"",
            "architecture \"amd64\" \"arm64\"",
        ];
        assert_eq!(lines, expected);
        assert!(config_changes(&left, &left).is_empty());
    }
}
