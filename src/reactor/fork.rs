//! Where a reactor was made: a child of `fork` shares the poller of its parent, and each would take the other's events. The
//! loop refuses to run there; fork together with exec (`std::process::Command`) is no such child.

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Birthplace(u32);

impl Birthplace {
    /// This process.
    #[inline]
    pub(super) fn here() -> Birthplace {
        #[cfg(feature = "green")]
        return Birthplace(crate::sys::fork_generation());
        #[cfg(not(feature = "green"))]
        return Birthplace(std::process::id());
    }
}
