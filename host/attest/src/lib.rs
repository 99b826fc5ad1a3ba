//! What is in an image and what it was made of, as documents for programs: SBOM and provenance.
