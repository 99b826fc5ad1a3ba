//! End to end: what users see, on every engine that works here.

mod attestations;
mod bases;
mod build_file;
mod contents;
mod copies;
mod disks;
mod doctor;
mod examples;
mod failures;
mod hooks;
mod hostile;
mod inspections;
mod output;
mod real_input;
mod registries;
mod reproducible;
mod run;
mod sinks;
mod sources;
mod transformations;
mod unprivileged;
mod whiteouts;
