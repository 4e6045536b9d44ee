//! The relay's own lease, its peers', recovery and orphans.
