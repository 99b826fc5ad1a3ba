//! A real registry for tests, and a proxy that breaks what passes through it.
