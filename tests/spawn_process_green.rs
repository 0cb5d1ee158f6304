//! Child processes and descriptors under `GreenTransport`. Rules END-8, STD-1.
#![cfg(feature = "green")]
mod guard;
use guard::{guarded, passes};
use std::io::Write;
use twistlet::green::{GreenClientCreator, GreenTransport, block_on, spawn};
use twistlet::protocols::codec::Lines;
use twistlet::transport::process::{Command, ExitReason, SpawnError};
use twistlet::{ConnectError, ConnectionClosed, Reactor};

fn creator() -> GreenClientCreator {
    GreenClientCreator::new(&Reactor::current())
}
fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

#[test]
fn a_child_answers_line_by_line() {
    passes(|| {
        let doubles = sh("while read n; do echo $((n * 2)); done");
        let conn: GreenTransport<Lines> =
            creator().framed(|| Lines::new().delimiter(b"\n")).connect_process(doubles)?;
        for n in 0..100 {
            conn.send_line(format!("{n}"));
            assert_eq!(conn.read_line()?.expect("an answer"), (n * 2).to_string());
        }
        conn.lose_write_connection();
        assert_eq!(conn.read_line()?, None);
        conn.close()
    });
}

#[test]
fn a_megabyte_goes_through_while_another_green_thread_reads() {
    passes(|| {
        let conn = creator().connect_process("cat")?;
        let reader = conn.clone();
        let read = spawn(move || reader.read_all());
        for _ in 0..100 {
            conn.write([b'x'; 10_000])?;
        }
        conn.lose_write_connection();
        assert_eq!(block_on(read)?.len(), 1_000_000);
        Ok(())
    });
}

#[test]
fn a_child_that_fails_ends_the_reading_with_its_exit_reason() {
    guarded(|| {
        let conn = creator().connect_process(sh("echo last words; exit 3")).expect("it starts");
        let mut text = Vec::new();
        let failure = loop {
            match conn.recv() {
                Ok(Some(bytes)) => text.extend_from_slice(&bytes),
                Ok(None) => break conn.close().expect_err("it failed"),
                Err(failure) => break failure,
            }
        };
        assert_eq!(text, b"last words\n");
        match failure.check::<ConnectionClosed>() {
            Some(ConnectionClosed::Failed(why)) => {
                assert_eq!(why.check::<ExitReason>(), Some(&ExitReason::Failed { code: 3 }));
            }
            other => panic!("{other:?}"),
        }
        let missing = creator().connect_process("/nonexistent").expect_err("nothing there");
        assert!(matches!(missing.check(), Some(ConnectError::Failed(why)) if why.is::<SpawnError>()));
    });
}

#[test]
fn a_pipe_is_read_to_its_end() {
    passes(|| {
        let (reader, mut writer) = std::io::pipe()?;
        let conn = creator().adopt_stream(reader)?;
        writer.write_all(b"hello")?;
        drop(writer);
        assert_eq!(conn.read_all()?, "hello");
        Ok(())
    });
}
