//! What is in an image, and how two differ: as text people read and JSON programs read.
