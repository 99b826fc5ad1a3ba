//! `docker://`: blobs first, several at once, then the manifests, and the tag last.

use crate::error::Context;
use crate::plan::{Plan, PlannedBlob};
use crate::{Error, Event, Observer};
use kiln_image::digest::Digest;
use kiln_image::reference::RegistryReference;
use kiln_registry::Client;
use std::num::NonZeroUsize;
use std::sync::Mutex;

/// Pushes a plan.
pub(crate) fn push(
    plan: &Plan<'_>,
    to: &RegistryReference,
    client: &Client,
    threads: NonZeroUsize,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let [top] = &plan.tops[..] else {
        return Err(Error::usage(format!("docker://{to} takes one image or one index")));
    };
    if to.digest().is_some() {
        return Err(Error::usage(format!(
            "docker://{to}: what is pushed has a tag, its digest comes by itself"
        )));
    }
    observer.event(Event::Phase(&format!("pushing {to}")));
    push_blobs(plan, to, client, threads, observer)?;
    for document in &plan.documents {
        let is_top = document.digest == top.descriptor.digest;
        if !is_top && !is_referrer(plan, document.digest) {
            push_document(document, &untagged(to, document.digest), client)?;
        }
    }
    // By digest first: what is said about it names it.
    for document in &plan.documents {
        if document.digest == top.descriptor.digest {
            push_document(document, to, client)?;
        }
    }
    for document in plan.documents.iter().filter(|document| is_referrer(plan, document.digest)) {
        push_document(document, &untagged(to, document.digest), client)?;
    }
    Ok(())
}

/// The same repository without the tag, which is another document's.
fn untagged(to: &RegistryReference, digest: Digest) -> RegistryReference {
    format!("{}/{}@{digest}", to.domain(), to.path()).parse().expect("its parts were parsed before")
}

fn is_referrer(plan: &Plan<'_>, digest: Digest) -> bool {
    plan.referrers.iter().any(|referrer| referrer.digest == digest)
}

fn push_document(
    document: &kiln_image::manifest::Document,
    to: &RegistryReference,
    client: &Client,
) -> Result<(), Error> {
    client.push_manifest(to, document).context(|| format!("cannot push the manifest {}", document.digest))
}

fn push_blobs(
    plan: &Plan<'_>,
    to: &RegistryReference,
    client: &Client,
    threads: NonZeroUsize,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let mount_from: Vec<RegistryReference> = plan
        .mount_from
        .iter()
        .filter(|from| from.domain() == to.domain() && from.path() != to.path())
        .cloned()
        .collect();
    let queue: Mutex<Vec<&PlannedBlob<'_>>> = Mutex::new(plan.blobs.iter().rev().collect());
    let failed = Mutex::new(None);
    let next = || queue.lock().expect("no thread panics").pop();
    let work = || {
        while let Some(blob) = next() {
            if let Err(error) = push_blob(blob, to, client, &mount_from, observer) {
                failed.lock().expect("no thread panics").get_or_insert(error);
                queue.lock().expect("no thread panics").clear();
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get().min(plan.blobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    failed.into_inner().expect("no thread panics").map_or(Ok(()), Err)
}

fn push_blob(
    blob: &PlannedBlob<'_>,
    to: &RegistryReference,
    client: &Client,
    mount_from: &[RegistryReference],
    observer: &dyn Observer,
) -> Result<(), Error> {
    let descriptor = &blob.descriptor;
    let pushed = client.push_blob(to, descriptor, &|offset| blob.open(offset), mount_from);
    pushed.context(|| format!("cannot push blob {}", descriptor.digest))?;
    observer.event(Event::Blob { digest: &descriptor.digest, done: descriptor.size, size: descriptor.size });
    Ok(())
}
