//! Descriptors of the user's own (placeholder).
use super::Reactor;
use crate::failure::Result;
use std::os::fd::AsFd;
use std::rc::Rc;

/// todo
pub trait Descriptor {
    /// todo
    fn readable(&mut self) {}
    /// todo
    fn writable(&mut self) {}
}
/// todo
pub struct Watch(Rc<()>);
impl Reactor {
    /// Watches a descriptor of the caller's (Twisted's addReader, addWriter) until the registration is dropped.
    pub fn watch(&self, descriptor: impl AsFd + 'static, handler: impl Descriptor + 'static) -> Result<Watch> {
        let _ = (descriptor, handler);
        todo!()
    }
}
