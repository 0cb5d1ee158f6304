//! `std::os`: descriptors, and the UNIX names of `net`, `process` and `fs`.
