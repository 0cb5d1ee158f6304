//! `MultiService`: services that start and stop together.
//!
//! It owns its children; they and the parent above are told of each other weakly. What must never happen here: a child called
//! while the list of children is borrowed.
use super::{Service, ServiceError, ServiceHandle, ServicesFailed};
use crate::deferred::{Deferred, list};
use crate::failure::Result;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};

/// Services that are started and stopped together, and are one service to those above (Twisted's `MultiService`). Clones are
/// the same.
///
/// They are started in the order in which they were added, and stopped in the opposite order, none waiting for another. One
/// that fails leaves the others alone: the Deferred of the start or stop then fails with [`ServicesFailed`], when all have
/// answered.
///
/// ```
/// use std::time::Duration;
/// use twistlet::service::{MultiService, Service, TimerService};
/// use twistlet::testing::{Clock, success_result_of};
///
/// let clock = Clock::new();
/// let mut program = MultiService::new();
/// program.add_named("tick", TimerService::new(&clock, Duration::from_secs(1), || println!("tick")))?;
/// program.add(MultiService::new());
/// success_result_of(program.start_service());
/// assert!(program.named("tick")?.is_running());
/// success_result_of(program.stop_service());
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Default)]
pub struct MultiService(Rc<Inner>);

#[derive(Default)]
pub(super) struct Inner {
    children: RefCell<Vec<ServiceHandle>>,
    running: Cell<bool>,
    /// The parent of the handle that holds this one.
    above: RefCell<Weak<Inner>>,
}

impl MultiService {
    /// One without services.
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds a service without a name. If this runs, the service is started at once; a failure of that is logged.
    ///
    /// # Panics
    /// When the service is this one, or one above it.
    #[track_caller]
    pub fn add(&self, service: impl Service + 'static) -> ServiceHandle {
        let handle = ServiceHandle::new(service);
        if let Err(error) = handle.set_parent(self) {
            panic!("{error}");
        }
        handle
    }
    /// Adds a service by a name, which is its own among these.
    ///
    /// # Errors
    /// [`ServiceError::DuplicateName`], [`ServiceError::OwnAncestor`]: then it is not added.
    pub fn add_named(
        &self,
        name: impl Into<String>,
        service: impl Service + 'static,
    ) -> Result<ServiceHandle, ServiceError> {
        let handle = ServiceHandle::new(service);
        handle.set_name(name)?;
        handle.set_parent(self)?;
        Ok(handle)
    }
    /// Takes a service out, and stops it if it runs. Fires when it has stopped.
    ///
    /// # Errors
    /// The Deferred fails with [`ServiceError::NotAChild`] when it is not one of these.
    pub fn remove(&self, service: &ServiceHandle) -> Deferred<()> {
        let mut children = self.0.children.borrow_mut();
        let Some(place) = children.iter().position(|child| child == service) else {
            return Deferred::fail(ServiceError::NotAChild);
        };
        let child = children.remove(place);
        drop(children);
        child.set_owner(Weak::new());
        child.stop()
    }
    /// The service of that name (Twisted's `getServiceNamed`).
    ///
    /// # Errors
    /// [`ServiceError::Unknown`].
    pub fn named(&self, name: &str) -> Result<ServiceHandle, ServiceError> {
        let children = self.0.children.borrow();
        let found = children.iter().find(|child| child.name_is(name));
        found.cloned().ok_or_else(|| ServiceError::Unknown(name.to_owned()))
    }
    /// The services, in the order in which they were added.
    pub fn services(&self) -> Vec<ServiceHandle> {
        self.0.children.borrow().clone()
    }
    /// Whether it was started, and not stopped since.
    pub fn is_running(&self) -> bool {
        self.0.running.get()
    }

    pub(super) fn downgrade(&self) -> Weak<Inner> {
        Rc::downgrade(&self.0)
    }
    pub(super) fn upgrade(weak: &Weak<Inner>) -> Option<MultiService> {
        weak.upgrade().map(MultiService)
    }
    pub(super) fn set_above(&self, above: Weak<Inner>) {
        *self.0.above.borrow_mut() = above;
    }
    pub(super) fn can_take(&self, service: &ServiceHandle) -> Result<(), ServiceError> {
        if let Some(name) = service.name()
            && self.named(&name).is_ok()
        {
            return Err(ServiceError::DuplicateName(name));
        }
        let Some(multi) = service.as_multi() else { return Ok(()) };
        let mut next = Some(self.clone());
        while let Some(ancestor) = next {
            if ancestor == multi {
                return Err(ServiceError::OwnAncestor);
            }
            next = MultiService::upgrade(&ancestor.0.above.borrow());
        }
        Ok(())
    }
    pub(super) fn take(&self, service: &ServiceHandle) {
        self.0.children.borrow_mut().push(service.clone());
        service.set_owner(self.downgrade());
    }
    /// Tells each of `children` that is still one.
    fn tell(
        &self,
        children: impl IntoIterator<Item = ServiceHandle>,
        what: impl Fn(&ServiceHandle) -> Deferred<()>,
    ) -> Deferred<()> {
        let (mut titles, mut answers) = (Vec::new(), Vec::new());
        for child in children {
            if child.parent().as_ref() == Some(self) {
                titles.push(child.title());
                answers.push(what(&child));
            }
        }
        list(answers).add_callback(move |outcomes| {
            let failures =
                titles.into_iter().zip(outcomes).filter_map(|(title, outcome)| Some((title, outcome.err()?)));
            let failures: Vec<_> = failures.collect();
            if failures.is_empty() { Ok(()) } else { Err(ServicesFailed { failures }.into()) }
        })
    }
}

impl Service for MultiService {
    fn privileged_start(&mut self) -> Deferred<()> {
        self.tell(self.services(), ServiceHandle::privileged_start)
    }
    fn start_service(&mut self) -> Deferred<()> {
        self.0.running.set(true);
        self.tell(self.services(), ServiceHandle::start)
    }
    fn stop_service(&mut self) -> Deferred<()> {
        self.0.running.set(false);
        self.tell(self.services().into_iter().rev(), ServiceHandle::stop)
    }
}

/// Identity.
impl PartialEq for MultiService {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for MultiService {}
impl fmt::Debug for MultiService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("MultiService");
        debug.field("running", &self.is_running());
        match self.0.children.try_borrow() {
            Ok(children) => debug.field("services", &*children).finish(),
            Err(_) => debug.finish_non_exhaustive(),
        }
    }
}
