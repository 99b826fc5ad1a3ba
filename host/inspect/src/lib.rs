//! What is in an image, and how two differ: as text people read and JSON programs read.
//!
//! ```text
//! FileHistory   a tree that remembers which layer brought what; layers are pushed lowest first
//!  ├── report::layers     what each layer added, changed, deleted and wasted
//!  └── Listing            the tree, one line a file
//! Summary       one JSON document of an image, a superset of `skopeo inspect`'s
//! compare()     two images: files, configuration, layers
//! ```

mod capability;
mod compare;
mod config_changes;
mod escape;
mod file_history;
mod listing;
mod report;
mod size;
mod summary;

pub use compare::{Aspect, Change, Comparison, Difference, FileChange, Shared, Side, compare};
pub use config_changes::{ConfigChange, config_changes};
pub use escape::escaped;
pub use file_history::{Counts, FileHistory};
pub use listing::{Listing, ListingOptions};
pub use report::{LayerFacts, LayerReport, layers, layers_text};
pub use size::human_size;
pub use summary::{LayerData, Subject, Summary};
