use super::*;
use crate::Prune;
use crate::sample::Sample;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ONLY: Choice = Choice::Only;

fn import(sample: &Sample) -> Result<StoredImage, Error> {
    sample.store().import_docker_archive(&sample.archive(), &ONLY, None)
}

fn two_layers() -> Sample {
    Sample::new(&[&[("etc/a", "lower"), ("etc/b", "kept")], &[("etc/a", "upper")]])
}

/// Nothing but empty directories.
fn assert_empty(store: &Store) {
    assert!(store.du().unwrap().iter().all(|usage| usage.count == 0), "{:?}", store.du());
    assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
}

fn is_known(sample: &Sample) -> bool {
    let file = File::open(sample.archive()).unwrap();
    let identity = Identity::of(&file, &sample.archive()).unwrap();
    sample.store().known_image(identity.as_ref(), &ONLY).unwrap().is_some()
}

fn settle() {
    std::thread::sleep(Duration::from_millis(2100));
}

#[test]
fn layers_are_kept_under_their_digests() {
    let sample = two_layers();
    let image = import(&sample).unwrap();
    assert_eq!(image.layers.len(), 2);
    for layer in &image.layers {
        let bytes = fs::read(sample.store().layer_path(&layer.diff_id)).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (layer.diff_id, layer.length));
    }
    assert_eq!(Digest::of(&image.config_json), image.image_id);
    assert_eq!(fs::read_dir(sample.store().tmp()).unwrap().count(), 0);
    let again = sample.store().image(&image.image_id).unwrap().unwrap();
    assert_eq!(again.config, image.config);
}

#[test]
fn an_archive_left_alone_is_known_again() {
    let sample = two_layers();
    settle();
    import(&sample).unwrap();
    assert!(is_known(&sample));
    // The same length and, by intent, the same modification time.
    let metadata = fs::metadata(sample.archive()).unwrap();
    let file = File::options().write(true).open(sample.archive()).unwrap();
    (&file).write_all(b"./0.tar").unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
    assert!(!is_known(&sample));
}

#[test]
fn an_archive_that_just_changed_is_not_trusted() {
    let sample = two_layers();
    import(&sample).unwrap();
    assert!(!is_known(&sample));
}

#[test]
fn a_known_archive_whose_layers_are_gone_is_read_again() {
    let sample = two_layers();
    settle();
    let image_id = import(&sample).unwrap().image_id;
    let store = sample.store();
    for layer in import(&sample).unwrap().layers {
        fs::remove_file(store.layer_path(&layer.diff_id)).unwrap();
    }
    assert!(!is_known(&sample));
    assert_eq!(import(&sample).unwrap().image_id, image_id);
    assert!(is_known(&sample));
}

#[test]
fn a_damaged_layer_is_read_again() {
    let sample = two_layers();
    settle();
    let image = import(&sample).unwrap();
    let (store, layer) = (sample.store(), &image.layers[0]);
    let path = store.layer_path(&layer.diff_id);
    let whole = fs::read(&path).unwrap();
    for bytes in [&whole[..0], &whole[..whole.len() - 1], &[&whole[..], b"x"].concat()] {
        fs::write(&path, bytes).unwrap();
        assert!(!is_known(&sample));
        assert_eq!(import(&sample).unwrap().layers[0].length, whole.len() as u64);
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert!(is_known(&sample));
    }
}

#[test]
fn a_damaged_configuration_is_written_again() {
    let sample = two_layers();
    settle();
    let image_id = import(&sample).unwrap().image_id;
    fs::write(sample.store().image_path(&image_id), "{").unwrap();
    assert!(!is_known(&sample));
    import(&sample).unwrap();
    assert!(is_known(&sample));
}

#[test]
fn a_note_without_lengths_is_not_trusted() {
    let sample = two_layers();
    settle();
    let image_id = import(&sample).unwrap().image_id;
    let identity = Identity::of(&File::open(sample.archive()).unwrap(), &sample.archive()).unwrap().unwrap();
    let note = serde_json::json!({ "image_id": image_id });
    fs::write(sample.store().archive_path(&identity.key(&ONLY)), note.to_string()).unwrap();
    assert!(!is_known(&sample));
    import(&sample).unwrap();
    assert!(is_known(&sample));
}

#[test]
fn a_layer_that_is_no_whole_tar_leaves_nothing() {
    let sample = Sample::new(&[&[("file", "contents")]]);
    let good = fs::read(sample.store().layer_path(&import(&sample).unwrap().layers[0].diff_id)).unwrap();
    sample.store().prune(Prune::All).unwrap();
    for (bad, is_truncated, why) in [
        (vec![b'?'; 2048], false, "not a tar archive: it does not begin with a header"),
        (b"text".to_vec(), false, "not a tar archive: it is shorter than a header"),
        (Vec::new(), false, "not a tar archive: it is empty"),
        (
            good[..1500].to_vec(),
            true,
            "tar entry \"./file\" at byte 512: the archive ends in the middle of the padding after a file",
        ),
    ] {
        let diff_id = Digest::of(&bad);
        sample.write_archive(&[good.clone(), bad], &[Digest::of(&good), diff_id]);
        let error = import(&sample).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read layer {diff_id}"));
        let cause = error.image_error().unwrap();
        assert_eq!(cause.to_string(), why);
        assert_eq!((cause.is_truncated(), cause.is_corrupt()), (is_truncated, !is_truncated));
        assert_empty(&sample.store());
    }
}

#[test]
fn a_layer_without_files_is_one() {
    let sample = Sample::new(&[]);
    let empty = vec![0; 1024];
    let diff_id = Digest::of(&empty);
    sample.write_archive(&[empty], &[diff_id]);
    assert_eq!(import(&sample).unwrap().layers[0].length, 1024);
}

#[test]
fn an_archive_that_is_none_is_told_without_its_path() {
    let sample = Sample::new(&[]);
    fs::write(sample.archive(), "FROM scratch\n").unwrap();
    let error = import(&sample).unwrap_err();
    assert_eq!(error.to_string(), "not a tar archive: it is shorter than a header");
    assert!(error.image_error().unwrap().is_corrupt());
}

#[test]
fn another_image_than_expected_is_refused_even_when_it_is_known() {
    let sample = two_layers();
    settle();
    import(&sample).unwrap();
    let other = Digest::of(b"other");
    let error = sample.store().import_docker_archive(&sample.archive(), &ONLY, Some(&other)).unwrap_err();
    assert!(error.image_error().unwrap().is_digest_mismatch(), "{error}");
}

#[test]
fn a_wrong_digest_leaves_nothing() {
    let sample = two_layers();
    let layer = b"not what the configuration says".to_vec();
    sample.write_archive(&[layer], &[Digest::of(b"what it says")]);
    let error = import(&sample).unwrap_err();
    assert!(error.image_error().unwrap().is_digest_mismatch(), "{error}");
    assert!(error.to_string().starts_with("digest mismatch: layer"), "{error}");
    assert_empty(&sample.store());
}

#[test]
fn a_truncated_archive_leaves_nothing() {
    let sample = two_layers();
    let whole = fs::read(sample.archive()).unwrap();
    // The last of GNU tar's blocks of zeros are not needed.
    let needed = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for length in (0..needed).step_by(997) {
        fs::write(sample.archive(), &whole[..length]).unwrap();
        let error = import(&sample).unwrap_err();
        assert!(error.image_error().is_some(), "{length}: {error}");
    }
    assert_empty(&sample.store());
}

#[test]
fn many_importing_at_once_all_get_the_image() {
    let sample = two_layers();
    let imported: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| import(&sample).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for image in &imported {
        assert_eq!(image.image_id, imported[0].image_id);
        let mut bytes = Vec::new();
        image.layers[1].reader().read_to_end(&mut bytes).unwrap();
        assert_eq!(Digest::of(&bytes), image.layers[1].diff_id);
    }
    let layers = &sample.store().du().unwrap()[0];
    assert_eq!((layers.kind, layers.count), ("layers", 2));
}

#[test]
fn what_is_in_use_is_not_pruned() {
    let sample = two_layers();
    let store = sample.store();
    let image = import(&sample).unwrap();
    let image_id = image.image_id;
    store.prune(Prune::All).unwrap();
    assert_eq!(store.du().unwrap()[0].count, 2);
    drop(image);
    assert_eq!(store.prune(Prune::UnusedFor(Duration::from_secs(3600))).unwrap().count, 0);
    assert_eq!(store.prune(Prune::All).unwrap().count, 2);
    assert!(store.image(&image_id).unwrap().is_none());
    assert_empty(&store);
}

/// Where the child finds its store.
const CHILD_STORE: &str = "KILN_TEST_STORE";

/// Not a test but the process that the next one kills: it imports from its standard input.
#[test]
fn child() {
    if let Some(store) = std::env::var_os(CHILD_STORE) {
        let store = Store::open(Path::new(&store)).unwrap();
        let _ = store.import_stream(io::stdin(), &ONLY, None);
    }
}

/// Files without a name that a process has open in a directory.
fn nameless_files(process: u32, directory: &Path) -> usize {
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else { return 0 };
    let targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.starts_with(directory) && target.to_string_lossy().ends_with(" (deleted)"))
        .count()
}

#[test]
fn a_process_killed_in_the_middle_leaves_nothing() {
    let sample = two_layers();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "archive::tests::child"])
        .env(CHILD_STORE, sample.path("store"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let whole = fs::read(sample.archive()).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&whole[..3000]).unwrap();
    let tmp = sample.path("store/tmp");
    let started = Instant::now();
    while nameless_files(child.id(), &tmp) == 0 {
        assert!(started.elapsed() < Duration::from_secs(30), "the child did not begin a layer");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
    assert_empty(&sample.store());
}
