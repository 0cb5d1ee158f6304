//! Every example as a program: usage, what it prints, Ctrl-C.
mod support;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use support::{Program, dial};

#[track_caller]
fn assert_usage(name: &str, args: &[&str]) {
    let (status, output, errors) = Program::example(name, args).finish();
    assert_eq!(status.code(), Some(2), "{name} {args:?} ended with {status}");
    assert!(errors.contains(&format!("usage: {name}")), "{name} {args:?} said {errors:?}");
    assert!(output.is_empty(), "{name} {args:?} printed {output:?}");
}

/// A program listens before it runs, and Ctrl-C before that simply ends it. Once a connection is answered, or closed, it runs.
fn wait_until_it_runs(address: SocketAddr) {
    let mut stream = dial(address);
    stream.write_all(b"anybody there?\r\n").expect("sent");
    if let Err(error) = stream.read(&mut [0]) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "no answer");
    }
}

#[track_caller]
fn assert_ends_on_interrupt(name: &str, args: &[&str]) {
    let program = Program::example(name, args);
    let address = program.address();
    wait_until_it_runs(address);
    let open = dial(address); // a connection that stays open must not hold it up
    program.interrupt_and_finish();
    drop(open);
}

#[test]
fn callback_examples_explain_their_usage_and_exit_with_2() {
    assert_usage("callback_chat", &["nonsense"]);
    assert_usage("callback_chat", &["70000"]);
    assert_usage("callback_chat", &["0", "more"]);
    assert_usage("callback_portforward", &[]);
    assert_usage("callback_portforward", &["0", "localhost", "http"]);
}

#[test]
fn callback_servers_end_on_interrupt_with_0() {
    assert_ends_on_interrupt("callback_chat", &["127.0.0.1:0"]);
    assert_ends_on_interrupt("callback_portforward", &["127.0.0.1:0", "127.0.0.1", "1"]);
}

#[test]
fn a_port_in_use_is_a_message_and_exit_status_1() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = holder.local_addr().expect("bound").to_string();
    let (status, _, errors) = Program::example("callback_chat", &[&taken]).finish();
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains(&taken), "the message names the address: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
}

#[cfg(feature = "green")]
mod green {
    use super::*;
    use std::io::{BufRead, BufReader};
    use support::{example, exchange, folder, noise_file};

    #[test]
    fn the_founding_names_all_work() {
        assert_usage("founding", &["nonsense"]);
        let (status, output, errors) = Program::example("founding", &[]).finish();
        assert!(status.success(), "{output:?} {errors}");
        assert_eq!(output.last().map(String::as_str), Some("all of it works"));
    }

    #[test]
    fn every_example_explains_its_usage_and_exits_with_2() {
        assert_usage("tour", &["there"]);
        assert_usage("convert_protocol", &["there"]);
        assert_usage("process_pipeline", &["there"]);
        assert_usage("producer_consumer", &["many"]);
        assert_usage("supervise", &["whom"]);
        assert_usage("client", &["no port"]);
        assert_usage("client", &["localhost:80", "more"]);
        assert_usage("chat_server", &["nonsense"]);
        assert_usage("chat_server", &["--help"]);
        assert_usage("portforward", &["0", "localhost"]);
        assert_usage("portforward", &["nonsense", "localhost", "80"]);
        assert_usage("http_proxy", &["nonsense"]);
        assert_usage("http_proxy", &["0", "--timeout"]);
        assert_usage("http_proxy", &["0", "--timeout", "soon"]);
        assert_usage("echo_server", &[]);
        assert_usage("echo_server", &["127.0.0.1:0", "--style", "loud"]);
    }

    #[test]
    fn the_examples_that_end_by_themselves_show_their_work() {
        let (status, output, errors) = Program::example("producer_consumer", &["30"]).finish();
        assert!(status.success(), "{status}: {output:?}{errors}");
        assert_eq!(output.last().map(String::as_str), Some("all 30 jobs are done"));
        let (status, output, errors) = Program::example("supervise", &[]).finish();
        assert!(status.success() && errors.is_empty(), "{status}: {output:?}{errors}");
        for line in ["11 jobs are done, 1 worker was given up", "hopeless failed", "the slow one has tidied up"] {
            assert!(output.iter().any(|said| said.contains(line)), "{line}: {output:?}");
        }
    }

    #[test]
    fn every_server_ends_on_interrupt_with_0() {
        assert_ends_on_interrupt("chat_server", &["127.0.0.1:0"]);
        assert_ends_on_interrupt("portforward", &["127.0.0.1:0", "127.0.0.1", "1"]);
        assert_ends_on_interrupt("http_proxy", &["127.0.0.1:0"]);
        for style in ["callback", "green", "transport", "line"] {
            assert_ends_on_interrupt("echo_server", &["--style", style, "127.0.0.1:0"]);
        }
    }

    #[test]
    fn a_port_alone_listens_on_every_interface() {
        let program = Program::example("chat_server", &["0"]);
        let line = program.line_with("listening on");
        let (_, port) = line.split_once("0.0.0.0:").unwrap_or_else(|| panic!("{line:?}"));
        wait_until_it_runs(([127, 0, 0, 1], port.parse().expect("a port")).into());
        program.interrupt_and_finish();
    }

    #[test]
    fn the_tour_shows_each_style_and_exits_with_0() {
        let (status, output, errors) = Program::example("tour", &[]).finish();
        assert_eq!(status.code(), Some(0), "{output:#?}\n{errors}");
        let output = output.join("\n");
        for said in [
            "the room says: tea time",
            "the room says: hello, room",
            "localhost is [",
            "added up 500000500000",
            "[Ok(1), Ok(4), Ok(9)]",
            "gave up sleeping",
            "the reactor has stopped",
        ] {
            assert!(output.contains(said), "no {said:?} in:\n{output}");
        }
        assert!(!errors.contains("panicked"), "{errors}");
    }

    #[test]
    fn a_converted_protocol_answers_both_ways_and_exits_with_0() {
        let (status, output, errors) = Program::example("convert_protocol", &[]).finish();
        assert_eq!(status.code(), Some(0), "{output:#?}\n{errors}");
        let output = output.join("\n");
        for said in [r#"kind: 2, body: b"HELLO""#, r#"kind: 2, body: b"WORLD""#, r#"kind: 2, body: b"AGAIN""#] {
            assert!(output.contains(said), "no {said:?} in:\n{output}");
        }
    }

    #[test]
    fn pipelines_of_real_commands_run_at_once_and_it_exits_with_0() {
        let (status, output, errors) = Program::example("process_pipeline", &[]).finish();
        assert_eq!(status.code(), Some(0), "{output:#?}\n{errors}");
        let output = output.join("\n");
        for said in [
            r#"pipeline 1 counted ["2000 apple", "1000 pear", "1000 plum"]"#,
            r#"pipeline 3 counted ["6000 apple", "3000 pear", "3000 plum"]"#,
            "tr shouted 800000 letters",
            r#"exit status: 3, out "fine\n", err "not so fine\n""#,
            "sleep was given up and killed",
            "tick 20",
        ] {
            assert!(output.contains(said), "no {said:?} in:\n{output}");
        }
    }

    #[test]
    fn the_client_reads_a_page_whole_and_line_by_line() {
        let folder = folder("client");
        std::fs::write(folder.join("index.html"), "first line\nsecond line\n").expect("written");
        let (_server, address) = Program::file_server(&folder);
        let (status, output, errors) = Program::example("client", &[&address.to_string()]).finish();
        assert_eq!(status.code(), Some(0), "{output:#?}\n{errors}");
        assert!(output.iter().any(|line| line.ends_with(r"first line\nsecond line\n")), "{output:#?}");
        assert!(output.iter().any(|line| line.ends_with("8 second line")), "{output:#?}");
    }

    #[test]
    fn the_client_says_when_nobody_listens_and_exits_with_1() {
        let to = support::closed_port().to_string();
        let (status, _, errors) = Program::example("client", &[&to]).finish();
        assert_eq!(status.code(), Some(1), "{errors}");
        assert!(errors.contains(&to), "the message names the address: {errors}");
    }

    #[test]
    fn every_style_of_echo_gives_back_what_it_got() {
        let noise = std::fs::read(noise_file(&folder("echo"), 1_000_000)).expect("just written");
        for style in ["callback", "green", "transport", "line"] {
            let program = Program::example("echo_server", &["127.0.0.1:0", "--style", style]);
            let address = program.address();

            let mut stream = dial(address);
            let mut lines = BufReader::new(stream.try_clone().expect("a second handle"));
            for n in 0..1_000 {
                stream.write_all(format!("line {n}\r\n").as_bytes()).expect("sent");
                let mut line = String::new();
                lines.read_line(&mut line).expect("echoed");
                assert_eq!(line, format!("line {n}\r\n"), "{style}");
            }

            if style != "line" {
                let (mut writer, mut reader) = (dial(address), Vec::new());
                let mut back = writer.try_clone().expect("a second handle");
                let sent = noise.clone();
                let sending = std::thread::spawn(move || {
                    writer.write_all(&sent).expect("sent");
                    writer.shutdown(std::net::Shutdown::Write).expect("half-closed");
                });
                back.read_to_end(&mut reader).expect("echoed");
                sending.join().expect("sent");
                assert!(reader == noise, "{style}: {} of {} bytes came back", reader.len(), noise.len());
            }
            program.interrupt_and_finish();
        }
    }

    #[test]
    fn the_bench_may_give_the_address_last() {
        let program = Program::example("echo_server", &["--style", "line", "127.0.0.1:0"]);
        let mut stream = dial(program.address());
        stream.write_all(b"hello\r\n").expect("sent");
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).expect("echoed");
        assert_eq!(line, "hello\r\n");
    }

    #[test]
    fn each_example_begins_with_its_command_and_ends_with_how_to_poke_it() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                continue; // what examples share
            }
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("readable");
            assert!(text.starts_with(&format!("//! cargo run --example {name}")), "{name}: first line");
            assert!(text.lines().rev().take(8).any(|line| line.starts_with("// Try it")), "{name}: last lines");
            assert!(example(&name).exists());
        }
    }

    #[test]
    fn garbage_does_not_stop_a_server() {
        let chat = Program::example("chat_server", &["127.0.0.1:0"]);
        let address = chat.address();
        drop(dial(address)); // gone at once
        let answer = exchange(address, &[&[0xFF; 20_000][..], b"\r\n"].concat()); // no line is that long
        assert!(answer.starts_with("Welcome!"), "{answer}");
        let welcome = BufReader::new(dial(address)).lines().next().expect("a line").expect("readable");
        assert!(welcome.starts_with("Welcome!"), "{welcome}");
        chat.interrupt_and_finish();
    }
}
