//! `std::io`: its traits and tools are std's own, for green streams implement them; what waits (stdin, stdout, stderr, pipes)
//! is green. Porting is replacing `std::io` by `twistlet::green::io`.
//!
//! | `std::io` | here |
//! |---|---|
//! | `Read`, `Write`, `BufRead`, `Seek`, `IsTerminal`, `prelude` | std's own |
//! | `BufReader`, `BufWriter`, `LineWriter`, `Lines`, `Split`, `Bytes`, `Chain`, `Take`, `Cursor`, `Empty`, `Sink`, `Repeat`, `IoSlice`, `IoSliceMut`, `SeekFrom`, `IntoInnerError`, `WriterPanicked` | std's own |
//! | `copy`, `read_to_string`, `empty`, `sink`, `repeat` | std's own, which wait as their streams do |
//! | `Error`, `ErrorKind`, `Result` | std's own |
//! | `stdin`, `stdout`, `stderr`, `Stdin`, `Stdout`, `Stderr` and their locks | mirrored |
//! | `pipe`, `PipeReader`, `PipeWriter` | mirrored |
//! | `IsTerminal` for `Stdin`, `Stdout`, `Stderr` | std lets nobody implement it: a method of that name |
//! | `print!`, `println!`, `eprint!`, `dbg!` | std's own: they **hold the loop** while the terminal or pipe is full |
//!
//! # Standard input
//! A terminal, a pipe or a socket is waited for by the loop, and its descriptor stays blocking, since other processes may
//! have it too: it is read only when there is something. Another process that reads the same terminal or pipe may take that
//! away in between; then the loop is held until there is more. A regular file is read on the thread pool. What descriptor 0
//! is, is looked at once. Do not read through `std::io::stdin` as well: each has a buffer of its own.
//!
//! # Standard output
//! A write goes to `std::io::stdout`, with its buffer, on the thread pool, so it keeps its order with `println!`. To wait
//! until the descriptor is ready instead would not do: a terminal, or a pipe that others write to, may block all the same,
//! and made non-blocking it would be so for every process that has it. A trip to a thread costs some ten microseconds, so
//! wrap it into a `BufWriter` for many small writes; `write!` is one trip. The output of a green thread that is killed in a
//! write appears all the same.
mod gate;
mod pipe;
mod stdin;
mod stdout;

pub use pipe::{PipeReader, PipeWriter, pipe};
pub use stdin::{Stdin, StdinLock, stdin};
pub use stdout::{Stderr, StderrLock, Stdout, StdoutLock, stderr, stdout};

pub use std::io::{
    BufRead, BufReader, BufWriter, Bytes, Chain, Cursor, Empty, Error, ErrorKind, IntoInnerError, IoSlice, IoSliceMut,
    IsTerminal, LineWriter, Lines, Read, Repeat, Result, Seek, SeekFrom, Sink, Split, Take, Write, WriterPanicked,
    copy, empty, prelude, read_to_string, repeat, sink,
};

const _: () = {
    const fn assert_shareable<T: Send + Sync + std::fmt::Debug + std::panic::UnwindSafe>() {}
    assert_shareable::<Stdin>();
    assert_shareable::<Stdout>();
    assert_shareable::<Stderr>();
    assert_shareable::<PipeReader>();
    assert_shareable::<PipeWriter>();
};
