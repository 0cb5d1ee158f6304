//! Three people chat: through the green server, and through the one in callbacks.
mod support;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use support::{Program, dial};

struct Person {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Person {
    fn join(address: SocketAddr) -> Person {
        let stream = dial(address);
        Person { lines: BufReader::new(stream.try_clone().expect("a second handle")), stream }
    }

    fn say(&mut self, text: &str) {
        self.stream.write_all(format!("{text}\r\n").as_bytes()).expect("sent");
    }

    #[track_caller]
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line within patience");
        assert!(line.ends_with("\r\n"), "a whole line: {line:?}");
        line.trim_end().to_owned()
    }

    #[cfg(feature = "green")]
    fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("connected")
    }
}

#[cfg(feature = "green")]
#[test]
fn three_people_chat_through_the_green_server() {
    let chat = Program::example("chat_server", &["127.0.0.1:0"]);
    let at = chat.address();

    let mut ada = Person::join(at);
    assert_eq!(ada.hear(), "Welcome! There're 0 participants already");
    let mut bob = Person::join(at);
    assert_eq!(bob.hear(), "Welcome! There're 1 participants already");
    let mut cleo = Person::join(at);
    assert_eq!(cleo.hear(), "Welcome! There're 2 participants already");

    ada.say("hello");
    assert_eq!(bob.hear(), format!("from {}: hello", ada.address()));
    assert_eq!(cleo.hear(), format!("from {}: hello", ada.address()));
    bob.say("hi");
    bob.say("how are you?");
    // Ada does not hear herself: the first she hears is Bob.
    assert_eq!(ada.hear(), format!("from {}: hi", bob.address()));
    assert_eq!(ada.hear(), format!("from {}: how are you?", bob.address()));
    assert_eq!(cleo.hear(), format!("from {}: hi", bob.address()));
    assert_eq!(cleo.hear(), format!("from {}: how are you?", bob.address()));

    let left = bob.address();
    drop(bob);
    chat.line_with(&format!("{left} connection done"));
    cleo.say("Bob left");
    assert_eq!(ada.hear(), format!("from {}: Bob left", cleo.address()));
    let mut dan = Person::join(at);
    assert_eq!(dan.hear(), "Welcome! There're 2 participants already");

    chat.interrupt_and_finish();
}

#[test]
fn three_people_chat_through_the_callback_server() {
    let chat = Program::example("callback_chat", &["127.0.0.1:0"]);
    let at = chat.address();

    let mut people = Vec::new();
    for name in ["Ada", "Bob", "Cleo"] {
        let mut person = Person::join(at);
        assert_eq!(person.hear(), "What's your name?");
        person.say(name);
        assert_eq!(person.hear(), format!("Welcome, {name}!"));
        people.push(person);
    }
    let mut impostor = Person::join(at);
    assert_eq!(impostor.hear(), "What's your name?");
    impostor.say("Ada");
    assert_eq!(impostor.hear(), "Ada is here already. What's your name?");

    let [mut ada, mut bob, mut cleo] = <[Person; 3]>::try_from(people).ok().expect("three");
    ada.say("hello");
    assert_eq!(bob.hear(), "<Ada> hello");
    assert_eq!(cleo.hear(), "<Ada> hello");
    // Closed with unread data, as by a crash.
    cleo.say("wait");
    drop(cleo);
    assert_eq!(ada.hear(), "<Cleo> wait");
    assert_eq!(bob.hear(), "<Cleo> wait");
    bob.say("she left");
    assert_eq!(ada.hear(), "<Bob> she left");

    chat.interrupt_and_finish();
}
