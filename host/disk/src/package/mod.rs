//! What a disk is delivered in: OVA, XVA and other archives.
