//! Says which green thread overflowed its stack, instead of a bare segmentation fault, and aborts.
//!
//! `stack` registers its slabs here; the handler looks a faulting address up in them. Any other fault goes to whoever
//! handled faults before: the application's handler, std's, or the system. The handler must call nothing that is not
//! async-signal-safe, and never resumes what overflowed.
use super::slab;
use super::stack::Seat;
use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// One slab, as the handler sees it. Never freed: a handler on another thread may be looking. Used again instead.
pub(super) struct Entry {
    /// 0 while it describes nothing.
    base: AtomicUsize,
    length: AtomicUsize,
    stride: AtomicUsize,
    next: *const Entry,
    taken: AtomicBool,
}
// SAFETY: all that changes is atomic; `next` is written before the entry is published.
unsafe impl Sync for Entry {}

static ENTRIES: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

fn entries() -> impl Iterator<Item = &'static Entry> {
    // SAFETY: entries are never freed.
    let first = unsafe { ENTRIES.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |entry| unsafe { entry.next.as_ref() })
}

/// Makes a slab known to the handler.
pub(super) fn register(base: usize, length: usize, stride: usize) -> &'static Entry {
    let vacant =
        entries().find(|entry| entry.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok());
    let entry = vacant.unwrap_or_else(|| {
        let new = Box::leak(Box::new(Entry {
            base: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            stride: AtomicUsize::new(0),
            next: ENTRIES.load(Ordering::Acquire),
            taken: AtomicBool::new(true),
        }));
        while let Err(first) = ENTRIES.compare_exchange(new.next.cast_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
            new.next = first;
        }
        new
    });
    entry.length.store(length, Ordering::Relaxed);
    entry.stride.store(stride, Ordering::Relaxed);
    entry.base.store(base, Ordering::Release);
    entry
}

/// Makes a slab unknown again.
pub(super) fn unregister(entry: &'static Entry) {
    entry.base.store(0, Ordering::Release);
    entry.taken.store(false, Ordering::Release);
}

/// Where a stack is: its size is the power of two below its stride, the rest more guard.
#[derive(Clone, Copy)]
struct Place {
    low: usize,
    stride: usize,
}
impl Place {
    fn size(self) -> usize {
        1 << self.stride.ilog2()
    }
    fn guard(self) -> usize {
        self.stride - self.size() + slab::guard(self.size())
    }
}

/// The stack an address is in.
fn find(address: usize) -> Option<Place> {
    entries().find_map(|entry| {
        let base = entry.base.load(Ordering::Acquire);
        let offset = address.checked_sub(base).filter(|_| base != 0)?;
        let stride = entry.stride.load(Ordering::Relaxed);
        (offset < entry.length.load(Ordering::Relaxed))
            .then_some(Place { low: base + offset / stride * stride, stride })
    })
}

const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// The handlers that were there before ours, in the order of `SIGNALS`.
struct Before(UnsafeCell<[MaybeUninit<libc::sigaction>; SIGNALS.len()]>);
// SAFETY: written once, in `install`, before the handler that reads it is installed.
unsafe impl Sync for Before {}
static BEFORE: Before = Before(UnsafeCell::new([const { MaybeUninit::uninit() }; SIGNALS.len()]));

thread_local! {
    /// An alternate signal stack of ours on this thread.
    static ALTERNATE: Cell<*mut c_void> = const { Cell::new(ptr::null_mut()) };
}
/// Ours and the earlier handler's frames fit in, on top of what the kernel saves (12 KiB with AVX-512).
const ALTERNATE_SIZE: usize = 64 << 10;

/// Installs the handlers, once a process, and an alternate signal stack, if this thread has none.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        for (place, signal) in SIGNALS.into_iter().enumerate() {
            // SAFETY: all zero is a valid sigaction, whose members are set below.
            let mut action: libc::sigaction = unsafe { mem::zeroed() };
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            // SAFETY: `action` is valid; the earlier one is read and kept before ours is installed, so ours never
            // finds it unset. Only this closure writes it.
            unsafe {
                libc::sigemptyset(&mut action.sa_mask);
                let before = (*BEFORE.0.get())[place].as_mut_ptr();
                if libc::sigaction(signal, ptr::null(), before) == 0 {
                    libc::sigaction(signal, &action, ptr::null_mut());
                }
            }
        }
    });
    if !ALTERNATE.get().is_null() {
        return;
    }
    // SAFETY: asks what is there, and sets fresh memory of the size said; `end_thread` takes it away before unmapping.
    unsafe {
        let mut now: libc::stack_t = mem::zeroed();
        if libc::sigaltstack(ptr::null(), &mut now) != 0 || now.ss_flags & libc::SS_DISABLE == 0 {
            return;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
        let memory = libc::mmap(ptr::null_mut(), ALTERNATE_SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if memory == libc::MAP_FAILED {
            return;
        }
        let ours = libc::stack_t { ss_sp: memory, ss_flags: 0, ss_size: ALTERNATE_SIZE };
        if libc::sigaltstack(&ours, ptr::null_mut()) == 0 {
            ALTERNATE.set(memory);
        } else {
            libc::munmap(memory, ALTERNATE_SIZE);
        }
    }
}

/// Takes the alternate signal stack away again, if it is ours.
pub(super) fn end_thread() {
    let memory = ALTERNATE.replace(ptr::null_mut());
    if memory.is_null() {
        return;
    }
    // SAFETY: the memory is unmapped only if it is the alternate stack no more, or never was.
    unsafe {
        let mut now: libc::stack_t = mem::zeroed();
        if libc::sigaltstack(ptr::null(), &mut now) != 0 {
            return;
        }
        if now.ss_sp == memory {
            let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: ALTERNATE_SIZE };
            if libc::sigaltstack(&none, ptr::null_mut()) != 0 {
                return;
            }
        }
        libc::munmap(memory, ALTERNATE_SIZE);
    }
}

extern "C" fn handler(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler.
    let (address, sent) = unsafe { ((*info).si_addr() as usize, (*info).si_code <= 0) };
    if !sent
        && let Some(place) = find(address)
        && address < place.low + place.guard()
        && is_running_on(place, context)
    {
        report(place);
        // SAFETY: abort is async-signal-safe.
        unsafe { libc::abort() };
    }
    // SAFETY: the arguments are the kernel's.
    unsafe { chain(signal, info, context, sent) };
}

/// Whether the code that faulted was running on this stack: a stray pointer into somebody's guard is no overflow.
fn is_running_on(place: Place, context: *mut c_void) -> bool {
    let Some(pointer) = stack_pointer(context) else { return true };
    // Probes may move the stack pointer a page ahead of what they touch.
    (place.low.saturating_sub(place.guard())..place.low + place.stride).contains(&pointer)
}

#[allow(unused_variables)]
fn stack_pointer(context: *mut c_void) -> Option<usize> {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    // SAFETY: the kernel passes a ucontext to a SA_SIGINFO handler.
    return Some(unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RSP as usize] } as usize);
    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    // SAFETY: as above.
    return Some(unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.sp } as usize);
    #[allow(unreachable_code)]
    None
}

/// Writes the report to standard error, by one `write`.
fn report(place: Place) {
    let seat = (place.low + place.stride - size_of::<Seat>()) as *const Seat;
    // SAFETY: the stack that this thread was running on has a seat at its top and an owner.
    let name = unsafe { (*seat).owner.get().as_ref().map(|owner| owner.name_bytes()) };
    let mut line = Line { text: [0; 512], length: 0 };
    line.push(b"\n");
    match name {
        Some(Some(name)) => {
            line.push(b"green thread '");
            line.push(&name[..name.len().min(200)]);
            line.push(b"'");
        }
        _ => line.push(b"a green thread without a name"),
    }
    line.push(b" overflowed its ");
    line.number(place.size() >> 10);
    line.push(
        b" KiB stack; raise it with the stack size it is made with (Builder::stack_size, Greenlet::with_stack_size)\n",
    );
    let text = &line.text[..line.length];
    // SAFETY: write is async-signal-safe; the bytes are there. Nothing can be done if it fails.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

struct Line {
    text: [u8; 512],
    length: usize,
}
impl Line {
    fn push(&mut self, more: &[u8]) {
        for byte in more {
            if self.length < self.text.len() {
                self.text[self.length] = *byte;
                self.length += 1;
            }
        }
    }
    fn number(&mut self, number: usize) {
        if number >= 10 {
            self.number(number / 10);
        }
        self.push(&[b'0' + (number % 10) as u8]);
    }
}

/// Lets the earlier handler have the signal.
///
/// # Safety
/// From a signal handler, with its own arguments.
unsafe fn chain(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, sent: bool) {
    let place = usize::from(signal != SIGNALS[0]);
    // SAFETY: written before this handler was installed, and never since.
    let before = unsafe { (*BEFORE.0.get())[place].assume_init_ref() };
    let action = before.sa_sigaction;
    if action == libc::SIG_IGN && sent {
        return;
    }
    // SAFETY: what was installed as a handler has the type its flags say; it runs with the signals blocked that it
    // asked for. `default` is a valid action.
    unsafe {
        if action == libc::SIG_DFL || action == libc::SIG_IGN {
            let mut default: libc::sigaction = mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(signal, &default, ptr::null_mut());
            if sent {
                libc::raise(signal);
            }
            // A fault happens again when this returns, and ends the process as if we had not been here.
            return;
        }
        let mut mask: libc::sigset_t = mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, &before.sa_mask, &mut mask);
        if before.sa_flags & libc::SA_SIGINFO != 0 {
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = mem::transmute(action);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(c_int) = mem::transmute(action);
            handler(signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &mask, ptr::null_mut());
    }
}
