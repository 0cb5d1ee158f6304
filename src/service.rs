//! Services: what starts and stops with a program, alone or in a tree (Twisted's `application.service` and
//! `application.internet`).
//!
//! | Twisted | here |
//! |---|---|
//! | `Service` | [`Service`], held by a [`ServiceHandle`], which has the name, the parent and whether it runs |
//! | `MultiService`, `Application` | [`MultiService`] |
//! | `twistd`, `app.run` | [`Application`], [`run_application`] |
//! | `svc.setServiceParent(parent)`, `disownServiceParent()` | [`ServiceHandle::set_parent`], [`ServiceHandle::disown`] |
mod application;
mod client;
mod connection;
mod error;
mod handle;
mod listeners;
mod multi;
mod server;
mod successor;
pub mod systemd;
mod timer;
mod watched;

pub use application::{Application, RestartSignal, run_application};
pub use client::{ClientService, ExponentialBackoff, RetryPolicy};
pub use connection::ConnectionService;
pub use error::{ServiceError, ServicesFailed};
pub use handle::ServiceHandle;
pub use listeners::{Listeners, ListenersEndpoint};
pub use multi::MultiService;
pub use server::StreamServerEndpointService;
pub use successor::RestartError;
pub use timer::{CooperatorService, TimerService};

use crate::deferred::Deferred;

/// Something that starts and stops (Twisted's `IService`). Written by users; called through a [`ServiceHandle`], never while
/// another method of the same service runs: a start or stop that is asked for meanwhile follows.
///
/// ```
/// use twistlet::Deferred;
/// use twistlet::service::{MultiService, Service};
///
/// struct Journal(Vec<&'static str>);
/// impl Service for Journal {
///     fn start_service(&mut self) -> Deferred<()> {
///         self.0.push("started");
///         Deferred::succeed(())
///     }
///     fn stop_service(&mut self) -> Deferred<()> {
///         self.0.push("stopped");
///         Deferred::succeed(())
///     }
/// }
///
/// let program = MultiService::new();
/// let journal = program.add_named("journal", Journal(Vec::new()))?;
/// journal.start();
/// assert!(journal.is_running());
/// # journal.stop();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub trait Service {
    /// Called before any service of the tree is started, while the program still has the rights it was started with: for what
    /// needs them, such as low ports. The Deferred fires when that is done.
    fn privileged_start(&mut self) -> Deferred<()> {
        Deferred::succeed(())
    }
    /// Starts it. The Deferred fires when it is up and fails when it cannot be. It may be started again after a stop.
    fn start_service(&mut self) -> Deferred<()>;
    /// Stops it, also when its start has failed or is not done. The Deferred fires when nothing of it is left.
    fn stop_service(&mut self) -> Deferred<()>;
}

impl<S: Service + ?Sized> Service for Box<S> {
    fn privileged_start(&mut self) -> Deferred<()> {
        (**self).privileged_start()
    }
    fn start_service(&mut self) -> Deferred<()> {
        (**self).start_service()
    }
    fn stop_service(&mut self) -> Deferred<()> {
        (**self).stop_service()
    }
}
