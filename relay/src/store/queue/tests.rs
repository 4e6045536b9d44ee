//! Property tests of the machine alone.
