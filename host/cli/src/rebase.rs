//! `kiln rebase`.
//!
//! An image that starts with the old base's layers gets the new base's in their place. Of its configuration, what is as the
//! old base had it becomes what the new base has, variable by variable and label by label; what the image said itself stays.

use crate::{arguments::RebaseArguments, copy, progress, workplace::Workplace};
use anyhow::{Context, Result, bail};
use kiln_image::config::{ContainerConfig, History, ImageConfig};
use kiln_store::Layer;
use kiln_transport::OutputImage;
use serde_json::{Map, Value};

/// Members of `config` that are merged one by one.
const SETS: [&str; 3] = ["Labels", "ExposedPorts", "Volumes"];

/// Rebases the image.
pub fn run(arguments: &RebaseArguments) -> Result<()> {
    for output in &arguments.output {
        copy::refuse_terminal(&output.dest.location)?;
    }
    let workplace = Workplace::open(&arguments.registry, progress::transfer(arguments.progress))?;
    let import = |reference| workplace.import(reference, arguments.platform.as_ref());
    let (imported, old) = (import(&arguments.reference)?, import(&arguments.old_base)?.image);
    let new = import(&arguments.new_base)?.image;
    let config = rebased(&imported.image.config, &old.config, &new.config)?;
    let own = &imported.image.layers[old.layers.len()..];
    let layers: Vec<Layer> = new.layers.iter().chain(own).cloned().collect();
    let json = config.to_json();
    let names = if arguments.tag.is_empty() { imported.names } else { arguments.tag.clone() };
    let image = OutputImage {
        image: workplace.store.keep_image(config, json, layers)?,
        names,
        annotations: imported.annotations,
        attachments: Vec::new(),
    };
    for output in &arguments.output {
        let written = workplace.transport().write(std::slice::from_ref(&image), output)?;
        eprintln!("kiln: wrote {}: {} bytes", written.dest, written.size);
    }
    Ok(())
}

/// The configuration on the new base.
fn rebased(image: &ImageConfig, old: &ImageConfig, new: &ImageConfig) -> Result<ImageConfig> {
    let Some(own) = image.rootfs.diff_ids.strip_prefix(&old.rootfs.diff_ids[..]) else {
        bail!(
            "the image was not built on the old base: it does not start with its {} layers",
            old.rootfs.diff_ids.len()
        );
    };
    let platform = |config: &ImageConfig| (config.os.clone(), config.architecture.clone());
    if platform(image) != platform(new) {
        bail!(
            "the new base is for {}/{}, the image for {}/{}",
            new.os,
            new.architecture,
            image.os,
            image.architecture
        );
    }
    let history = complete(&new.history, new.rootfs.diff_ids.len());
    let mut rebased = image.clone();
    rebased.variant = kept(&image.variant, &old.variant, &new.variant);
    rebased.author = kept(&image.author, &old.author, &new.author);
    rebased.extra = merged(&image.extra, &old.extra, &new.extra);
    rebased.config = container(&image.config, &old.config, &new.config)?;
    rebased.rootfs.diff_ids = new.rootfs.diff_ids.iter().chain(own).copied().collect();
    rebased.history = history.into_iter().chain(own_history(image, old)).collect();
    Ok(rebased)
}

/// What the image says unless it only repeats the old base.
fn kept<T: Clone + PartialEq>(image: &T, old: &T, new: &T) -> T {
    if image == old { new.clone() } else { image.clone() }
}

/// The same of each member.
fn merged(
    image: &Map<String, Value>,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = Map::new();
    let others = image.iter().filter(|(key, _)| !new.contains_key(*key));
    for (key, _) in new.iter().chain(others) {
        let value = kept(&image.get(key), &old.get(key), &new.get(key));
        merged.extend(value.map(|value| (key.clone(), value.clone())));
    }
    merged
}

fn container(
    image: &ContainerConfig,
    old: &ContainerConfig,
    new: &ContainerConfig,
) -> Result<ContainerConfig> {
    let object = |config: &ContainerConfig| match serde_json::to_value(config) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    };
    let (image, old, new) = (object(image), object(old), object(new));
    let mut container = merged(&image, &old, &new);
    for key in SETS {
        let members = |config: &Map<String, Value>| {
            config.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
        };
        set(&mut container, key, Value::Object(merged(&members(&image), &members(&old), &members(&new))));
    }
    let variables = merged(&variables(&image), &variables(&old), &variables(&new));
    let variables = variables.into_iter().map(|(name, value)| match value {
        Value::String(value) => format!("{name}={value}").into(),
        _ => Value::String(name),
    });
    set(&mut container, "Env", Value::Array(variables.collect()));
    serde_json::from_value(Value::Object(container)).context("cannot merge the configurations")
}

/// Nothing is said where there is nothing to say.
fn set(container: &mut Map<String, Value>, key: &str, value: Value) {
    let is_empty =
        value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
    if is_empty {
        container.remove(key);
    } else {
        container.insert(key.to_owned(), value);
    }
}

fn variables(config: &Map<String, Value>) -> Map<String, Value> {
    let variables =
        config.get("Env").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let pair = |variable: &str| match variable.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.into()),
        None => (variable.to_owned(), Value::Null),
    };
    variables.map(pair).collect()
}

/// One entry at least for each layer, so that what follows belongs to the layers that follow.
fn complete(history: &[History], layers: usize) -> Vec<History> {
    let mut history = history.to_vec();
    let known = history.iter().filter(|entry| !entry.empty_layer).count();
    for _ in known..layers {
        history.push(History { created_by: Some("unknown".to_owned()), ..History::default() });
    }
    history
}

/// What was done on top of the old base.
fn own_history(image: &ImageConfig, old: &ImageConfig) -> Vec<History> {
    if let Some(own) = image.history.strip_prefix(&old.history[..]) {
        return own.to_vec();
    }
    let mut of_base = old.rootfs.diff_ids.len();
    let is_own = |entry: &&History| match (of_base, entry.empty_layer) {
        (0, _) => true,
        (_, true) => false,
        (_, false) => {
            of_base -= 1;
            false
        }
    };
    image.history.iter().filter(is_own).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_image::digest::Digest;
    use serde_json::json;

    fn config(layers: &[&str], container: Value) -> ImageConfig {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer.as_bytes())).collect();
        let history: Vec<Value> = layers.iter().map(|layer| json!({ "created_by": layer })).collect();
        let json = json!({
            "architecture": "amd64", "os": "linux", "config": container,
            "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": history,
        });
        ImageConfig::parse(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_the_image_said_stays() {
        let old = config(
            &["a"],
            json!({"Env": ["V=1", "P=/bin", "GONE=1"], "Cmd": ["sh"], "User": "base", "Labels": {"v": "1"}}),
        );
        let new = config(
            &["b", "c"],
            json!({"Env": ["V=2", "P=/usr", "NEW=1"], "Cmd": ["bash"], "Labels": {"v": "2"}}),
        );
        let image = config(
            &["a", "x"],
            json!({"Env": ["V=1", "P=/opt", "GONE=1", "APP=1"], "Cmd": ["sh"], "User": "app", "Labels": {"v": "1", "app": "y"}}),
        );
        let rebased = rebased(&image, &old, &new).unwrap();
        assert_eq!(
            serde_json::to_value(&rebased.config).unwrap(),
            json!({"User": "app", "Env": ["V=2", "P=/opt", "NEW=1", "APP=1"], "Cmd": ["bash"], "Labels": {"app": "y", "v": "2"}})
        );
        let layers: Vec<Digest> = ["b", "c", "x"].map(|layer| Digest::of(layer.as_bytes())).to_vec();
        assert_eq!(rebased.rootfs.diff_ids, layers);
        let by: Vec<_> = rebased.history.iter().filter_map(|entry| entry.created_by.as_deref()).collect();
        assert_eq!(by, ["b", "c", "x"]);
    }

    #[test]
    fn histories_that_are_not_whole() {
        let (mut old, mut new) = (config(&["a"], json!({})), config(&["b"], json!({})));
        let image = config(&["a", "x"], json!({}));
        old.history[0].comment = Some("another".to_owned());
        new.history.clear();
        let rebased = rebased(&image, &old, &new).unwrap();
        let by: Vec<_> = rebased.history.iter().filter_map(|entry| entry.created_by.as_deref()).collect();
        assert_eq!(by, ["unknown", "x"]);
    }

    #[test]
    fn what_was_not_built_on_the_base_is_refused() {
        let (image, base) = (config(&["a", "x"], json!({})), config(&["b"], json!({})));
        assert!(
            rebased(&image, &base, &base).unwrap_err().to_string().contains("was not built on the old base")
        );
        let mut other = base.clone();
        other.architecture = "arm64".to_owned();
        let error = rebased(&image, &config(&["a"], json!({})), &other).unwrap_err();
        assert_eq!(error.to_string(), "the new base is for linux/arm64, the image for linux/amd64");
    }
}
