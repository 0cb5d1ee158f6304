//! How values, failures and exits travel between greenlets: who gets them, and what they do there.
//!
//! Called by the methods of `Greenlet`. A parcel is in flight only during one switch. No borrow is held while a body, a
//! destructor or another greenlet runs: everything mutable is taken out of its cell first.
use super::{Greenlet, GreenletError, GreenletExit, Value};
use crate::failure::{self, Failure, ForcedUnwind, Result};
use crate::sys;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::panic::{self, AssertUnwindSafe};
use std::thread;

/// What a raw greenlet runs.
pub(super) type Body = Box<dyn FnOnce(Value) -> Result<Value>>;

/// What a raw greenlet is beyond its fiber.
pub(super) struct Raw {
    /// Until it starts.
    pub(super) body: Cell<Option<Body>>,
    /// Whom its outcome goes to.
    pub(super) parent: Cell<Option<Greenlet>>,
    pub(super) stack_size: usize,
    /// How often it was told to exit since it was killed.
    told: Cell<u32>,
    /// Who is dropping its last handle, and waits for it to be unwound.
    reaper: Cell<Option<Greenlet>>,
}

impl Raw {
    pub(super) fn new(body: Body, parent: Greenlet, stack_size: usize) -> Self {
        Self {
            body: Cell::new(Some(body)),
            parent: Cell::new(Some(parent)),
            stack_size,
            told: Cell::new(0),
            reaper: Cell::new(None),
        }
    }
}

/// So often a killed greenlet may go on as if nothing had happened.
const PATIENCE: u32 = 16;

/// What arrives at a greenlet.
pub(super) enum Parcel {
    Value(Value),
    Failure(Failure),
    /// Unwind, to the root.
    Exit,
    /// A greenlet that should have been unwound would not.
    Refused,
}

impl Parcel {
    /// What becomes of it when it leaves a greenlet that is dead: an exit is a value.
    fn leaving(self) -> Self {
        match self {
            Self::Exit => Self::Value(Box::new(GreenletExit)),
            Self::Failure(failure) if failure.is::<GreenletExit>() => Self::Value(Box::new(GreenletExit)),
            other => other,
        }
    }
}

struct Flight {
    parcel: Parcel,
    /// Who switched. If nobody else has a handle of it, it is unwound on arrival; or if it has ended, freed, which may run
    /// a user's destructors and therefore must not be done before.
    from: Option<Greenlet>,
}

thread_local! {
    /// Without a destructor, so that it can be used by those of other thread-locals; empty but for a moment.
    static FLIGHT: ManuallyDrop<Cell<Option<Flight>>> = const { ManuallyDrop::new(Cell::new(None)) };
    /// Suspended greenlets whose last handle went away while unwinding: they are unwound at the next switch.
    static GRAVEYARD: Graveyard = const { Graveyard(RefCell::new(Vec::new()), Cell::new(false)) };
}

/// And whether somebody is at it.
struct Graveyard(RefCell<Vec<Greenlet>>, Cell<bool>);
impl Drop for Graveyard {
    fn drop(&mut self) {
        // At the end of the thread nothing is unwound.
        self.0.take().into_iter().for_each(mem::forget);
    }
}

fn launch(parcel: Parcel, from: Option<Greenlet>) {
    FLIGHT.with(|flight| flight.set(Some(Flight { parcel, from })));
}

/// Takes what arrived at the current greenlet.
fn land() -> Parcel {
    let flight = FLIGHT.with(|flight| flight.take());
    Greenlet::current().0.set_mark(false);
    match flight {
        Some(Flight { parcel, from }) => {
            drop(from);
            bury();
            parcel
        }
        // Resumed by the hub for want of anybody else.
        None => Parcel::Value(Box::new(())),
    }
}

/// Whether a switch may be done here and now.
#[inline]
pub(super) fn check() -> Result<(), GreenletError> {
    if sys::is_over() {
        return Err(GreenletError::ThreadEnding);
    }
    if thread::panicking() {
        return Err(GreenletError::Unwinding);
    }
    Ok(())
}

/// Sends a parcel to a greenlet, or to whom it goes from there, and waits for one.
pub(super) fn send(to: &Greenlet, parcel: Parcel) -> Result<Value> {
    check()?;
    bury();
    let me = Greenlet::current();
    if let Some(raw) = me.raw()
        && raw.told.get() > 0
    {
        if raw.told.get() < PATIENCE {
            return exit(&me);
        }
        raw.told.set(0);
        complain(format_args!("{me:?} was killed and runs on: it swallowed the exit {PATIENCE} times"));
        if let Some(reaper) = raw.reaper.take() {
            return go(me, reaper, Parcel::Refused);
        }
    }
    let (target, parcel) = route(to.clone(), parcel, None)?;
    if target.0.is_current() {
        drop(target);
        return open(&me, parcel);
    }
    go(me, target, parcel)
}

fn go(me: Greenlet, target: Greenlet, parcel: Parcel) -> Result<Value> {
    me.0.set_mark(true);
    launch(parcel, Some(me));
    let fiber = target.0.clone();
    drop(target);
    fiber.transfer_into();
    let parcel = land();
    open(&Greenlet::current(), parcel)
}

/// What a parcel does at the greenlet it has reached.
fn open(me: &Greenlet, parcel: Parcel) -> Result<Value> {
    match parcel {
        Parcel::Value(value) => Ok(value),
        Parcel::Failure(failure) => Err(failure),
        Parcel::Exit if me.raw().is_some() => exit(me),
        Parcel::Exit => Err(GreenletExit.into()),
        Parcel::Refused => Ok(Box::new(())),
    }
}

/// Unwinds the current greenlet. Where that cannot be, the exit is an error.
fn exit(me: &Greenlet) -> Result<Value> {
    if let Some(raw) = me.raw() {
        raw.told.set(raw.told.get() + 1);
    }
    if cfg!(panic = "unwind") && !thread::panicking() {
        // The panic hook is not called.
        panic::resume_unwind(Box::new(ForcedUnwind::new(0)));
    }
    Err(GreenletExit.into())
}

/// Finds who gets a parcel: the first that is alive, upwards from `target`. An unstarted one is started by a value, and
/// dies of anything else. `dying` is the current greenlet if it sends its outcome.
fn route(mut target: Greenlet, mut parcel: Parcel, dying: Option<&Greenlet>) -> Result<(Greenlet, Parcel)> {
    loop {
        if target.is_dead() || dying == Some(&target) {
            parcel = parcel.leaving();
        } else if target.0.is_current() {
            return Ok((target, parcel));
        } else if target.is_started() {
            if !target.0.mark() {
                return Err(GreenletError::Managed.into());
            }
            return Ok((target, parcel));
        } else {
            let Some(raw) = target.raw() else { return Err(GreenletError::Managed.into()) };
            if let Parcel::Value(_) = parcel {
                match target.0.equip(raw.stack_size, root) {
                    Ok(()) => return Ok((target, parcel)),
                    Err(error) if dying.is_none() => return Err(error.into()),
                    Err(error) => parcel = Parcel::Failure(error.into()),
                }
            }
            let body = raw.body.take();
            target.0.abandon();
            parcel = parcel.leaving();
            failure::drop_quietly(body);
        }
        let parent = target.parent().unwrap_or_else(Greenlet::main);
        target = parent;
    }
}

/// Where the stack of a raw greenlet begins: runs the body and sends its outcome to the parent.
fn root() {
    let parcel = land();
    // No handle of this greenlet may stay here while the body runs: nobody could drop the last.
    let body = Greenlet::current().raw().and_then(|raw| raw.body.take());
    let outcome = match (parcel, body) {
        (Parcel::Value(value), Some(body)) => panic::catch_unwind(AssertUnwindSafe(move || body(value))),
        (Parcel::Failure(failure), _) => Ok(Err(failure)),
        _ => Ok(Err(GreenletExit.into())),
    };
    let me = Greenlet::current();
    let told = me.raw().is_some_and(|raw| raw.told.replace(0) > 0);
    let parcel = match outcome {
        Ok(Ok(value)) => Parcel::Value(value),
        Ok(Err(failure)) => Parcel::Failure(failure).leaving(),
        Err(payload) if told && payload.is::<ForcedUnwind>() => Parcel::Exit.leaving(),
        Err(payload) => Parcel::Failure(Failure::from_panic(payload)),
    };
    let (target, parcel) = match route(me.clone(), parcel, Some(&me)) {
        Ok(found) => found,
        Err(_) => {
            complain(format_args!("the outcome of {me:?} is lost: its parent is parked in the hub"));
            let main = Greenlet::main();
            if !main.0.mark() {
                me.0.set_successor(&main.0);
                // MAIN is in the hub, where nothing can land: it is freed at the next switch.
                return inter(me);
            }
            (main, Parcel::Value(Box::new(())))
        }
    };
    me.0.set_successor(&target.0);
    drop(target);
    launch(parcel, Some(me));
}

/// The last handle of a raw greenlet goes.
#[cold]
pub(super) fn forget(last: &Greenlet) {
    let Some(raw) = last.raw() else { return };
    if last.is_dead() || !last.is_started() {
        // A long chain of parents must not be dropped by recursion.
        let mut next = raw.parent.take();
        while let Some(parent) = next {
            next = match parent.raw() {
                Some(raw) if parent.0.handles() == 1 && (parent.is_dead() || !parent.is_started()) => raw.parent.take(),
                _ => None,
            };
        }
    } else if last.0.is_current() || !last.0.mark() {
        // It runs, or the hub has it.
    } else {
        match check() {
            // The thread is ending: the stack stays.
            Ok(()) if sys::in_destructor() => {}
            Ok(()) => reap(last, raw),
            Err(GreenletError::Unwinding) => inter(last.clone()),
            Err(_) => {}
        }
    }
}

/// Keeps a greenlet for the next switch, which drops it. Where there is no graveyard any more it is forgotten with the
/// rest of the thread.
fn inter(greenlet: Greenlet) {
    let mut kept = ManuallyDrop::new(Some(greenlet));
    let _ = GRAVEYARD.try_with(|graves| graves.0.borrow_mut().extend(kept.take()));
}

/// Unwinds a suspended greenlet from the one that drops its last handle.
fn reap(last: &Greenlet, raw: &Raw) {
    let me = Greenlet::current();
    let parent = raw.parent.replace(Some(me.clone()));
    drop(raw.reaper.replace(Some(me.clone())));
    me.0.set_mark(true);
    launch(Parcel::Exit, None);
    last.0.transfer();
    match land() {
        Parcel::Failure(failure) => failure::report(format_args!("{last:?}, unwound by its last owner"), &failure),
        parcel => {
            match parcel {
                Parcel::Value(value) => failure::drop_quietly(value),
                // Somebody else kills the reaper, and a destructor must not unwind: its next switch does.
                Parcel::Exit => me.raw().into_iter().for_each(|raw| raw.told.set(raw.told.get() + 1)),
                _ => {}
            }
            if !last.is_dead() && last.0.handles() == 1 {
                complain(format_args!("{last:?} would not be unwound by its last owner: its stack stays"));
            }
        }
    }
    drop(raw.reaper.take());
    drop(raw.parent.replace(parent));
}

/// Unwinds whom nobody could unwind before.
fn bury() {
    // Unwinding one may need others to be buried: one after the other, not inside each other.
    let begin = |graves: &Graveyard| !graves.0.borrow().is_empty() && !graves.1.replace(true);
    if !GRAVEYARD.try_with(begin).unwrap_or(false) {
        return;
    }
    while let Ok(Some(greenlet)) = GRAVEYARD.try_with(|graves| graves.0.borrow_mut().pop()) {
        drop(greenlet);
    }
    let _ = GRAVEYARD.try_with(|graves| graves.1.set(false));
}

/// The logger is the user's: it may panic, and this may be a destructor.
#[cold]
fn complain(what: fmt::Arguments<'_>) {
    if let Err(failure) = failure::catch(|| log::error!(target: "twistlet", "{what}")) {
        failure::drop_quietly(failure);
    }
}
