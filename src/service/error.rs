//! What can be wrong with a tree of services.
use crate::failure::Failure;
use std::error::Error;
use std::fmt;

/// The tree of services cannot be changed so.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ServiceError {
    /// The parent has a service of this name.
    DuplicateName(String),
    /// The parent has no service of this name.
    Unknown(String),
    /// The name cannot be changed: the parent knows the service by it.
    HasParent,
    /// The service is not one of this parent's.
    NotAChild,
    /// The service would be its own ancestor.
    OwnAncestor,
}
impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateName(name) => write!(f, "there is a service named {name:?} already: choose another name"),
            Self::Unknown(name) => write!(f, "there is no service named {name:?}"),
            Self::HasParent => f.write_str("a service that has a parent keeps its name: disown() it first"),
            Self::NotAChild => f.write_str("the service is not one of this parent's"),
            Self::OwnAncestor => f.write_str("a service cannot be added to itself or to what is below it"),
        }
    }
}
impl Error for ServiceError {}

/// Services of a tree that could not be started, or not be stopped in order; the others were.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicesFailed {
    /// The name of each, or its type if it has none, and what became of it; in the order in which they were told.
    pub failures: Vec<(String, Failure)>,
}
impl fmt::Display for ServicesFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (name, failure)) in self.failures.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}service {name}: {failure}")?;
        }
        Ok(())
    }
}
impl Error for ServicesFailed {}
