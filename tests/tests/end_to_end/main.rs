//! End to end: what users see, on every engine that works here.

mod bases;
mod build_file;
mod contents;
mod doctor;
mod failures;
mod hooks;
mod output;
mod real_input;
mod reproducible;
mod run;
