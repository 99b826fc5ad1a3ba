//! What each layer is and did, as dive shows it.

use crate::escape::escaped;
use crate::file_history::{Counts, FileHistory};
use crate::size::human_size;
use kiln_image::config::{History, ImageConfig};
use kiln_image::digest::Digest;
use serde::Serialize;
use std::fmt::Write;

/// What is known of a layer besides its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFacts {
    /// Digest, size in bytes and media type of its blob, where there is one.
    pub blob: Option<(Digest, u64, String)>,
    /// Bytes of its tar.
    pub unpacked_size: u64,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerReport {
    /// From 0, the lowest.
    pub number: usize,
    /// Of the blob.
    pub digest: Option<Digest>,
    /// Of the tar.
    pub diff_id: Digest,
    /// Of the blob.
    pub media_type: Option<String>,
    /// Bytes of the blob.
    pub size: Option<u64>,
    /// Bytes of the tar.
    pub unpacked_size: u64,
    /// When it was made, by its history.
    pub created: Option<String>,
    /// By what it was made, by its history.
    pub created_by: Option<String>,
    /// Files it touched.
    pub files: Counts,
    /// Bytes of its files.
    pub bytes_added: u64,
    /// Bytes of its files that layers above overwrite or delete.
    pub bytes_wasted: u64,
}

/// Reports on all layers, lowest first: as many as all of configuration, facts and history have.
pub fn layers(config: &ImageConfig, facts: &[LayerFacts], files: &FileHistory) -> Vec<LayerReport> {
    let mut history = config.history.iter().filter(|entry| !entry.empty_layer);
    let parts = config.rootfs.diff_ids.iter().zip(facts).zip(files.effects()).enumerate();
    let report = |(number, ((diff_id, facts), effect)): (usize, ((&Digest, &LayerFacts), _))| {
        let History { created, created_by, .. } = history.next().cloned().unwrap_or_default();
        let effect: &crate::file_history::Effect = effect;
        LayerReport {
            number,
            digest: facts.blob.as_ref().map(|blob| blob.0),
            diff_id: *diff_id,
            media_type: facts.blob.as_ref().map(|blob| blob.2.clone()),
            size: facts.blob.as_ref().map(|blob| blob.1),
            unpacked_size: facts.unpacked_size,
            created,
            created_by,
            files: effect.files,
            bytes_added: effect.bytes_added,
            bytes_wasted: effect.bytes_wasted,
        }
    };
    parts.map(report).collect()
}

/// For people: a paragraph a layer, and the sums.
pub fn layers_text(reports: &[LayerReport]) -> String {
    let mut text = String::new();
    for report in reports {
        write_report(&mut text, report).expect("writing to a string");
    }
    let sum = |of: fn(&LayerReport) -> u64| reports.iter().map(of).fold(0, u64::saturating_add);
    let (added, wasted) = (sum(|report| report.bytes_added), sum(|report| report.bytes_wasted));
    let percent = (u128::from(wasted) * 100).checked_div(u128::from(added)).unwrap_or(0);
    let (count, added, wasted) = (reports.len(), human_size(added), human_size(wasted));
    writeln!(text, "{count} layers, {added} of files, {wasted} of them ({percent} %) wasted")
        .expect("writing to a string");
    text
}

fn write_report(text: &mut String, report: &LayerReport) -> std::fmt::Result {
    let Counts { added, changed, deleted } = report.files;
    writeln!(text, "layer {}  {}", report.number, first_line(report.created_by.as_deref()))?;
    writeln!(text, "  diff ID  {}", report.diff_id)?;
    if let (Some(digest), Some(size)) = (report.digest, report.size) {
        writeln!(text, "  digest   {digest}")?;
        let media_type = escaped(report.media_type.as_deref().unwrap_or("unknown").as_bytes());
        writeln!(text, "  blob     {}, {media_type}", human_size(size))?;
    }
    writeln!(text, "  unpacked {}", human_size(report.unpacked_size))?;
    let (bytes, wasted) = (human_size(report.bytes_added), human_size(report.bytes_wasted));
    writeln!(text, "  files    {added} added, {changed} changed, {deleted} deleted; {bytes}, {wasted} wasted")
}

/// As much of a command as fits on a line.
fn first_line(command: Option<&str>) -> String {
    const LENGTH: usize = 100;
    let Some(command) = command else { return "(no history)".to_owned() };
    let line = command.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(LENGTH).collect();
    let more = if short.len() < line.len() { " ..." } else { "" };
    escaped(short.as_bytes()) + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_history::sample;

    #[test]
    fn a_report_of_two_layers() {
        let mut config = ImageConfig::scratch("amd64", "linux");
        config.rootfs.diff_ids = vec![Digest::of(b"a"), Digest::of(b"b")];
        let by = |created_by: &str, empty_layer| History {
            created_by: Some(created_by.to_owned()),
            empty_layer,
            ..History::default()
        };
        config.history =
            vec![by("ADD rootfs", false), by("ENV A=1", true), by("RUN  one\n two\u{1b}", false)];
        let blob = Some((Digest::of(b"c"), 2048, "application/vnd.oci.image.layer.v1.tar+gzip".to_owned()));
        let facts =
            [LayerFacts { blob, unpacked_size: 10240 }, LayerFacts { blob: None, unpacked_size: 3072 }];
        let files = sample::history(&[&[("a", "1000"), ("b", "24")], &[("a", "500"), (".wh.b", "0")]]);
        let reports = layers(&config, &facts, &files);
        assert_eq!(
            layers_text(&reports),
            "layer 0  ADD rootfs\n\
             \x20 diff ID  sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb\n\
             \x20 digest   sha256:2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6\n\
             \x20 blob     2.0 KiB, application/vnd.oci.image.layer.v1.tar+gzip\n\
             \x20 unpacked 10.0 KiB\n\
             \x20 files    3 added, 0 changed, 0 deleted; 1.0 KiB, 1.0 KiB wasted\n\
             layer 1  RUN one two\\u{1b}\n\
             \x20 diff ID  sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d\n\
             \x20 unpacked 3.0 KiB\n\
             \x20 files    0 added, 1 changed, 1 deleted; 500 B, 0 B wasted\n\
             2 layers, 1.5 KiB of files, 1.0 KiB of them (67 %) wasted\n"
        );
    }
}
