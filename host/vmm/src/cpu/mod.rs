//! What a virtual processor is like when it starts.
