//! `ServiceHandle`: a service with its name, its parent and whether it runs.
//!
//! Parents own handles and children name their parents weakly. What must never happen here: a service called while a cell is
//! borrowed, or while it is inside another of its methods; `Shared` sees to the second.
use super::multi::{self, MultiService};
use super::{Service, ServiceError};
use crate::deferred::Deferred;
use crate::failure::Result;
use crate::shared::Shared;
use std::any::{Any, type_name};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};

/// A service and its place in the tree. Clones are the same service.
///
/// [`MultiService::add`] gives one; [`ServiceHandle::new`] makes one without a parent.
#[derive(Clone)]
pub struct ServiceHandle(Rc<Node>);

struct Node {
    service: Shared<Box<dyn Service>>,
    type_name: &'static str,
    name: RefCell<Option<String>>,
    parent: RefCell<Weak<multi::Inner>>,
    running: Cell<bool>,
    /// If it is a parent itself.
    multi: Option<Weak<multi::Inner>>,
}

impl ServiceHandle {
    /// A service without name and parent.
    pub fn new<S: Service + 'static>(service: S) -> Self {
        let multi = (&service as &dyn Any).downcast_ref::<MultiService>().map(MultiService::downgrade);
        ServiceHandle(Rc::new(Node {
            service: Shared::new(Box::new(service)),
            type_name: type_name::<S>(),
            name: RefCell::default(),
            parent: RefCell::default(),
            running: Cell::new(false),
            multi,
        }))
    }
    /// Its name among its siblings.
    pub fn name(&self) -> Option<String> {
        self.0.name.borrow().clone()
    }
    /// Names it.
    ///
    /// # Errors
    /// [`ServiceError::HasParent`].
    pub fn set_name(&self, name: impl Into<String>) -> Result<(), ServiceError> {
        if self.parent().is_some() {
            return Err(ServiceError::HasParent);
        }
        *self.0.name.borrow_mut() = Some(name.into());
        Ok(())
    }
    /// Whom it starts and stops with.
    pub fn parent(&self) -> Option<MultiService> {
        MultiService::upgrade(&self.0.parent.borrow())
    }
    /// Gives it to `parent`, taking it from the one it has, which stops it (Twisted's `setServiceParent`). If the parent runs,
    /// the service is started, when it has stopped; a failure of that is logged.
    ///
    /// # Errors
    /// [`ServiceError::DuplicateName`] and [`ServiceError::OwnAncestor`]: then nothing has changed.
    pub fn set_parent(&self, parent: &MultiService) -> Result<(), ServiceError> {
        if self.parent().as_ref() == Some(parent) {
            return Ok(());
        }
        parent.can_take(self)?;
        let stopped = self.disown();
        parent.take(self);
        let (this, parent) = (self.clone(), parent.downgrade());
        let _ = stopped.add_both(move |outcome| {
            let parent = MultiService::upgrade(&parent).filter(|parent| this.parent().as_ref() == Some(parent));
            if parent.is_some_and(|parent| parent.is_running()) && !this.is_running() {
                drop(this.privileged_start());
                drop(this.start());
            }
            outcome
        });
        Ok(())
    }
    /// Takes it from its parent and stops it, if it runs. Fires when it has stopped; at once without a parent.
    pub fn disown(&self) -> Deferred<()> {
        match self.parent() {
            Some(parent) => parent.remove(self),
            None => Deferred::succeed(()),
        }
    }
    /// Whether it was started and not stopped since.
    pub fn is_running(&self) -> bool {
        self.0.running.get()
    }
    /// Does what needs the rights the program was started with. Does nothing when it runs.
    pub fn privileged_start(&self) -> Deferred<()> {
        if self.is_running() {
            return Deferred::succeed(());
        }
        self.0.service.call(|service| service.privileged_start())
    }
    /// Starts it; fires when it is up. Does nothing when it runs. When this fails it still counts as running, until it is
    /// stopped, so that what is left of it can be.
    pub fn start(&self) -> Deferred<()> {
        if self.0.running.replace(true) {
            return Deferred::succeed(());
        }
        self.0.service.call(|service| service.start_service())
    }
    /// Stops it; fires when nothing of it is left. Does nothing when it does not run.
    pub fn stop(&self) -> Deferred<()> {
        if !self.0.running.replace(false) {
            return Deferred::succeed(());
        }
        self.0.service.call(|service| service.stop_service())
    }
    /// Its name, or its type for want of one.
    pub(super) fn title(&self) -> String {
        self.name().unwrap_or_else(|| self.0.type_name.to_owned())
    }
    pub(super) fn name_is(&self, name: &str) -> bool {
        self.0.name.borrow().as_deref() == Some(name)
    }
    pub(super) fn set_owner(&self, parent: Weak<multi::Inner>) {
        if let Some(multi) = self.0.multi.as_ref().and_then(MultiService::upgrade) {
            multi.set_above(parent.clone());
        }
        *self.0.parent.borrow_mut() = parent;
    }
    /// The children, if it is a parent itself.
    pub(super) fn as_multi(&self) -> Option<MultiService> {
        self.0.multi.as_ref().and_then(MultiService::upgrade)
    }
}

/// Identity.
impl PartialEq for ServiceHandle {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for ServiceHandle {}
impl fmt::Debug for ServiceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceHandle").field("name", &self.title()).field("running", &self.is_running()).finish()
    }
}
