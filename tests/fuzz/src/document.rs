//! Any bytes as the documents that images come with: manifests and indexes of both dialects, manifests of schema version 1,
//! configurations, docker-archives, image references, and the challenges of registries.
//!
//! The first byte says which. What is parsed is written the same again, and what is written is parsed the same.

use kiln_image::config::ImageConfig;
use kiln_image::digest::Digest;
use kiln_image::docker_archive::{self, LayerRef, LayerSink};
use kiln_image::manifest::{Content, Document, Schema1};
use kiln_image::reference::{Choice, ImageReference};
use std::io;

/// Plays an input.
pub fn play(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    match choice % 6 {
        0 => manifest(rest),
        1 => schema_1(rest),
        2 => config(rest),
        3 => archive(rest),
        4 => reference(rest),
        _ => {
            let _ = kiln_registry::schema_1_payload(rest);
        }
    }
}

fn manifest(bytes: &[u8]) {
    let Ok(document) = Document::parse(bytes.to_vec(), None) else { return };
    assert_eq!(document.digest, Digest::of(bytes));
    let written = match &document.content {
        Content::Manifest(manifest) => manifest.to_document(),
        Content::Index(index) => index.to_document(),
    };
    let again = Document::parse(written.bytes.clone(), Some(&written.media_type))
        .expect("what is written is a document");
    assert_eq!(again.content, document.content);
    assert_eq!(again.bytes, written.bytes);
}

fn schema_1(bytes: &[u8]) {
    let Ok(parsed) = Schema1::parse(bytes) else { return };
    let diff_ids: Vec<Digest> =
        parsed.blobs().iter().map(|blob| Digest::of(blob.to_string().as_bytes())).collect();
    if let Ok(config) = parsed.config(diff_ids.clone()) {
        assert_eq!(config.rootfs.diff_ids, diff_ids);
    }
}

fn config(bytes: &[u8]) {
    let Ok(parsed) = ImageConfig::parse(bytes) else { return };
    let json = parsed.to_json();
    assert_eq!(ImageConfig::parse(&json).expect("what is written is a configuration"), parsed);
}

/// Takes layers and forgets them, but not that they came whole.
#[derive(Default)]
struct Sink(Vec<LayerRef>);

impl LayerSink for Sink {
    type Writer = Vec<u8>;

    fn begin(&mut self, _: &str) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn end(&mut self, bytes: Vec<u8>, layer: LayerRef) -> io::Result<()> {
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (layer.diff_id, layer.size));
        self.0.push(layer);
        Ok(())
    }
}

fn archive(bytes: &[u8]) {
    let mut sink = Sink::default();
    let all = docker_archive::read_all(bytes, &mut sink);
    let one = docker_archive::read(bytes, &Choice::Only, None, &mut Sink::default());
    let Ok(all) = all else { return };
    for image in &all {
        assert!(image.layers.iter().all(|layer| sink.0.contains(layer)));
        assert_eq!(image.config.rootfs.diff_ids.len(), image.layers.len());
    }
    assert_eq!(one.is_ok(), all.len() == 1);
}

fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(parsed) = text.parse::<ImageReference>() {
        assert_eq!(
            parsed.to_string().parse::<ImageReference>().expect("what is shown is a reference"),
            parsed
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;

    #[test]
    fn documents_of_each_kind_are_played() {
        let digest = Digest::of(b"x");
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":3,"urls":["https://example.org"],"annotations":{{"a":"b"}}}}],"annotations":{{"c":"d"}}}}"#
        );
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[{{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"{digest}","size":2,"platform":{{"architecture":"arm64","os":"linux","variant":"v8","os.version":"1","os.features":["a"]}}}}]}}"#
        );
        let schema_1 = format!(
            r#"{{"schemaVersion":1,"fsLayers":[{{"blobSum":"{digest}"}}],"history":[{{"v1Compatibility":"{{\"os\":\"linux\",\"architecture\":\"amd64\",\"throwaway\":false}}"}}]}}"#
        );
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["A=1"],"Healthcheck":{{"Test":["NONE"]}}}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":[{{"empty_layer":true}}]}}"#
        );
        let references = ["oci:dir:1", "docker://a/b:1", "docker-archive:x:@2", "scratch", "x@sha256:1"];
        let texts = [(0, manifest), (0, index), (1, schema_1), (2, config)];
        let texts = texts.into_iter().chain(references.map(|text| (4, text.to_owned())));
        for (choice, text) in texts {
            let input = [&[choice], text.as_bytes()].concat();
            seed::keep("document", &input);
            play(&input);
        }
    }

    #[test]
    fn an_archive_is_played() {
        let layer = kiln_image::tar::Writer::new(Vec::new()).finish().unwrap();
        let mut config = ImageConfig::scratch("amd64", "linux");
        config.rootfs.diff_ids = vec![Digest::of(&layer)];
        struct Source(Vec<u8>);
        impl docker_archive::LayerSource for Source {
            type Reader = io::Cursor<Vec<u8>>;
            fn open(&mut self, _: &Digest) -> io::Result<docker_archive::StoredLayer<Self::Reader>> {
                let bytes = self.0.clone();
                Ok(docker_archive::StoredLayer { size: bytes.len() as u64, bytes: io::Cursor::new(bytes) })
            }
        }
        let (json, names) = (config.to_json(), ["a:1".parse().unwrap()]);
        let tar = docker_archive::write(
            Vec::new(),
            kiln_image::compress::Compression::None,
            &json,
            &names,
            &mut Source(layer),
        );
        let input = [&[3], &tar.unwrap()[..]].concat();
        seed::keep("document", &input);
        play(&input);
    }
}
