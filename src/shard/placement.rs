//! Topic to shard; the only file that knows the hash.
