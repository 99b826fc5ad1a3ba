//! Partition tables: where partitions lie, and the bytes that say so.
